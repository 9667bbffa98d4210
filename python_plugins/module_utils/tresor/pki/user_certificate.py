"""The certificate that users see, from the company's PKI: requested and installed on a gateway.

The key is made on the gateway and never leaves it. A certificate and its key lie together in a
folder of their own, and ``current`` is a link to it: a swap is one rename, and the pair that was in
use before stays as ``previous``.
"""

from __future__ import annotations

import datetime as dt
import os
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from . import files, openssl
from .errors import PkiError, ToolError, UserCertificateError
from .names import Identity

_KEY, _CHAIN = "tls.key", "tls.crt"
_MAX_CHAIN_BYTES = 131_072
_MAX_CHAIN = 8


@dataclass(frozen=True)
class Place:
    """The folder of the user certificate on a gateway."""

    folder: Path

    @property
    def pending_key(self) -> Path:
        """The key that waits for its certificate."""
        return self.folder / "pending.key"

    @property
    def request(self) -> Path:
        """The signing request for that key."""
        return self.folder / "request.csr"

    @property
    def current(self) -> Path:
        """The link to the pair in use."""
        return self.folder / "current"

    @property
    def previous(self) -> Path:
        """The link to the pair that was in use before."""
        return self.folder / "previous"


@dataclass(frozen=True)
class Judged:
    """A chain that passed every check."""

    chain: str
    serial: str
    not_after: dt.datetime
    key: Path
    """The key it belongs to: the waiting one, or the one in use."""


def request(place: Place, names: Sequence[str], *, anew: bool) -> tuple[str, bool]:
    """Return the signing request in PEM and whether it was made now.

    A request that waits is returned as it is, unless ``anew`` is set or the names changed.

    Raises:
        ToolError: openssl failed.
    """
    waiting = files.read(place.request)
    if waiting is not None and place.pending_key.is_file() and not anew:
        same = openssl.request_names(waiting) == frozenset(names)
        if same:
            return waiting, False
    place.folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    if anew or not place.pending_key.is_file():
        files.write(place.pending_key, openssl.generate_key(), 0o400)
    identity = Identity(frozenset(names), frozenset(), frozenset({"server"}))
    pem = openssl.signing_request(place.pending_key, names[0], identity)
    files.write(place.request, pem, 0o644)
    return pem, True


def judge(
    place: Place, chain: str, ca: str, name: str, *, now: dt.datetime, min_validity: dt.timedelta
) -> Judged:
    """Check a chain (the gateway's certificate first, then the issuers) before it is used.

    Raises:
        UserCertificateError: everything that is wrong with it, in one message.
    """
    certificates = _split(chain)
    leaf = certificates[0]
    try:
        facts = openssl.describe(leaf)
    except ToolError as error:
        raise UserCertificateError(f"its first certificate cannot be read: {error}") from error
    problems = []
    key = _key_of(place, facts.public_key)
    if key is None:
        problems.append(
            f"it belongs to another key than the one that waits at {place.pending_key} and the one "
            "in use; have the request of this gateway signed"
        )
    if facts.not_before > now:
        problems.append(f"it is not valid before {facts.not_before:%Y-%m-%d %H:%M} UTC")
    if facts.not_after <= now:
        problems.append(f"it ended on {facts.not_after:%Y-%m-%d %H:%M} UTC")
    elif facts.not_after - now < min_validity:
        problems.append(
            f"it ends on {facts.not_after:%Y-%m-%d %H:%M} UTC, within {min_validity}: ask for a "
            "longer one"
        )
    if facts.is_authority:
        problems.append("its first certificate is an authority's; put the gateway's own first")
    if facts.usages is not None and "server" not in facts.usages:
        problems.append("it is not made for TLS servers (extendedKeyUsage lacks serverAuth)")
    if facts.key_usages is not None and "Digital Signature" not in facts.key_usages:
        problems.append("its keyUsage lacks digitalSignature")
    if (reason := _chain_problem(certificates, ca, name)) is not None:
        problems.append(reason)
    if problems or key is None:
        raise UserCertificateError("; ".join(problems))
    return Judged("".join(certificates), facts.serial, facts.not_after, key)


def in_use(place: Place, judged: Judged) -> bool:
    """Say whether exactly this chain is the one in use."""
    return files.read(place.current / _CHAIN) == judged.chain


def install(place: Place, judged: Judged) -> None:
    """Swap the judged chain and its key in; the pair in use becomes the previous one."""
    target = place.folder / f"{judged.not_after:%Y%m%d}-{judged.serial[-16:]}"
    number = 1
    while target.exists():
        number += 1
        target = target.with_name(f"{target.name.split('.')[0]}.{number}")
    target.mkdir(mode=0o755)
    files.write(target / _KEY, judged.key.read_text(), 0o400)
    files.write(target / _CHAIN, judged.chain, 0o644)
    _point(place, target)
    # The waiting key has found its certificate; the one in use is kept for the way back.
    if judged.key == place.pending_key:
        place.pending_key.unlink()
        place.request.unlink(missing_ok=True)
    _forget_older(place)


def roll_back(place: Place) -> Path:
    """Swap the current and the previous pair; return the folder that is in use now.

    Raises:
        UserCertificateError: there is no previous pair.
    """
    if not (place.previous / _CHAIN).is_file():
        raise UserCertificateError(f"there is no earlier certificate in {place.previous}")
    target = place.previous.resolve()
    _point(place, target)
    return target


def _point(place: Place, target: Path) -> None:
    """Make ``current`` a link to ``target``, and ``previous`` one to what it was."""
    if place.current.is_symlink() and place.current.resolve() != target:
        _link(place.previous, place.current.readlink())
    _link(place.current, Path(target.name))


def _link(path: Path, target: Path) -> None:
    scratch = path.with_name(f".{path.name}.new")
    scratch.unlink(missing_ok=True)
    scratch.symlink_to(target)
    scratch.replace(path)
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _forget_older(place: Place) -> None:
    kept = {path.resolve() for path in (place.current, place.previous) if path.is_symlink()}
    for path in place.folder.iterdir():
        if path.is_dir() and not path.is_symlink() and path.resolve() not in kept:
            for name in (_KEY, _CHAIN):
                (path / name).unlink(missing_ok=True)
            path.rmdir()


def _split(chain: str) -> list[str]:
    if len(chain) > _MAX_CHAIN_BYTES:
        raise UserCertificateError(f"the chain is longer than {_MAX_CHAIN_BYTES} bytes")
    if "PRIVATE KEY" in chain:
        raise UserCertificateError("the file holds a private key; it must hold certificates only")
    found = openssl.certificates(chain)
    if not 1 <= len(found) <= _MAX_CHAIN:
        raise UserCertificateError(
            f"the file holds {len(found)} certificates, 1 to {_MAX_CHAIN} fit"
        )
    return found


def _key_of(place: Place, public_key: str) -> Path | None:
    for path in (place.pending_key, place.current / _KEY):
        try:
            if path.is_file() and openssl.public_key_of(path) == public_key:
                return path
        except PkiError:
            continue
    return None


def _chain_problem(certificates: Sequence[str], ca: str, name: str) -> str | None:
    with tempfile.TemporaryDirectory(prefix="tresor-pki-") as scratch:
        work = Path(scratch)
        for file, content in (
            ("leaf", certificates[0]),
            ("others", "".join(certificates[1:])),
            ("ca", ca),
        ):
            (work / file).write_text(content)
        others = ["-untrusted", str(work / "others")] if certificates[1:] else []
        against = openssl.verify_server(work / "leaf", others, work / "ca", name)
    if against is None:
        return None
    if re.search(r"hostname mismatch", against, re.IGNORECASE):
        return f"it is not for the name {name}"
    if re.search(r"unable to get|self-signed certificate in|signature failure", against):
        return (
            "its chain does not lead to the given root; are the issuers in between missing? "
            f"({against})"
        )
    return f"openssl refuses it: {against}"
