"""The host's side: decide which certificates are due, make their keys, install what was signed.

A key that waits for its certificate lies beside the one in use (``<key>.pending``): a run that
ends between request and installation leaves the working pair untouched, and the next one goes on.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from pathlib import Path

from . import files, openssl
from .errors import InstallError, PkiError, ToolError
from .names import Identity

CERTIFICATE_MODE = 0o644
KEY_MODE = 0o400


@dataclass(frozen=True)
class Wanted:
    """One certificate that this host should hold."""

    name: str
    key: Path
    certificate: Path
    common_name: str
    identity: Identity
    renew_before: dt.timedelta
    owner: tuple[int, int]

    @property
    def pending_key(self) -> Path:
        """Where a new key waits for its certificate."""
        return self.key.with_name(self.key.name + ".pending")


@dataclass(frozen=True)
class State:
    """What was found: the certificate in use, and why it must be replaced, if it must."""

    certificate: openssl.Certificate | None
    reason: str | None
    access_wrong: bool


def look(
    wanted: Wanted, ca: Path, now: dt.datetime, revoked: frozenset[str] = frozenset()
) -> State:
    """Return the state of one certificate. Changes nothing. ``revoked`` are serials in hex.

    Raises:
        ToolError: openssl is missing.
    """
    if not wanted.key.is_file() or not wanted.certificate.is_file():
        return State(None, "no key or no certificate yet", access_wrong=False)
    access_wrong = not (
        files.has_access(wanted.key, KEY_MODE, wanted.owner)
        and files.has_access(wanted.certificate, CERTIFICATE_MODE, wanted.owner)
    )
    pem = wanted.certificate.read_text(encoding="utf-8", errors="replace")
    try:
        found = openssl.read_certificate(openssl.single_certificate(pem))
        reason = _reason(wanted, found, now)
        if reason is None and found.serial in revoked:
            reason = f"serial {found.serial} is revoked"
    except PkiError as error:
        return State(None, f"unreadable: {error}", access_wrong)
    if reason is None and (doubt := openssl.verify(pem, ca)) is not None:
        reason = f"another issuer: {doubt}"
    return State(found, reason, access_wrong)


def request(wanted: Wanted) -> str:
    """Return a signing request, for the waiting key if there is one, otherwise for a new one.

    Raises:
        ToolError: openssl failed.
    """
    if files.read(wanted.pending_key) is None:
        files.write(wanted.pending_key, openssl.generate_key(), KEY_MODE)
    try:
        return openssl.signing_request(wanted.pending_key, wanted.common_name, wanted.identity)
    except ToolError:
        # A damaged waiting key must not stop every later run.
        wanted.pending_key.unlink(missing_ok=True)
        raise


def install(wanted: Wanted, pem: str, ca: Path) -> openssl.Certificate:
    """Put the signed certificate and its key in place.

    Raises:
        InstallError: it was not made for the waiting key, for this identity or by this authority.
        ToolError: openssl failed.
    """
    block = openssl.single_certificate(pem)
    found = openssl.read_certificate(block)
    if not wanted.pending_key.is_file():
        raise InstallError(f"'{wanted.name}': no key waits at {wanted.pending_key}; run again")
    if openssl.public_key_of(wanted.pending_key) != found.public_key:
        raise InstallError(f"'{wanted.name}': the certificate belongs to another key; run again")
    if found.identity != wanted.identity:
        raise InstallError(
            f"'{wanted.name}': signed for {found.identity.describe()}, "
            f"asked for {wanted.identity.describe()}"
        )
    against = openssl.verify(block, ca)
    if against is not None:
        raise InstallError(f"'{wanted.name}': not issued by {ca}: {against}")
    files.set_access(wanted.pending_key, KEY_MODE, wanted.owner)
    # Key first: a service that reads between the two finds a pair that does not match and
    # refuses to start, it never runs on a key without a valid certificate.
    wanted.pending_key.replace(wanted.key)
    files.write(wanted.certificate, block, CERTIFICATE_MODE, wanted.owner)
    return found


def _reason(wanted: Wanted, found: openssl.Certificate, now: dt.datetime) -> str | None:
    if openssl.public_key_of(wanted.key) != found.public_key:
        return "the certificate belongs to another key"
    if found.identity != wanted.identity:
        return f"names or usage changed, it has {found.identity.describe()}"
    if found.not_after - now <= wanted.renew_before:
        return f"expires {found.not_after:%Y-%m-%d %H:%M} UTC"
    return None
