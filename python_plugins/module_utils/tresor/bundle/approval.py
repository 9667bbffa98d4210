"""Approval: different people sign the bundle's digest with their own SSH keys.

``ssh-keygen -Y`` does the cryptography (hardware keys included). Who may approve stands in an
``allowed_signers`` file that only root may write: owner and mode of the file and of its folder are
checked. An importer that does not run as root also takes a list of its own user. Lines of the list
must name one person each, no pattern, and the namespace; ``valid-before`` is judged by a time that
is never earlier than any signed time seen. Keys in the file ``revoked_keys`` beside it (public keys
or ``ssh-keygen -k``'s format) do not count any more.
"""

from __future__ import annotations

import os
import re
import shlex
import stat
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from .errors import EnvironmentNotReadyError, RejectedError, UsageError
from .layout import write_atomic
from .openssh import parse_public, ssh_keygen

NAMESPACE = "tresor-approve"
DEFAULT_ALLOWED_SIGNERS = Path("/etc/tresor/approvers/allowed_signers")
REVOKED_FILE = "revoked_keys"
REQUIRED_APPROVALS = 2
_PERSON = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_GOOD = re.compile(r'Good "[^"]+" signature for (\S+) with (\S+) key (SHA256:\S+)')
_MAX_LIST_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Approval:
    """A verified signature: who, and the fingerprint of the key."""

    person: str
    key: str


def statement(bundle_sha256: str) -> bytes:
    """Return the bytes that an approver signs."""
    return f"sha256:{bundle_sha256}\n".encode()


def sign(bundle_sha256: str, key: Path) -> bytes:
    """Sign with a private key file (or the handle of a hardware key).

    Raises:
        UsageError: rule ``approval.key``.
    """
    with tempfile.TemporaryDirectory(prefix="tresor-approve-") as folder:
        message = Path(folder) / "digest"
        message.write_bytes(statement(bundle_sha256))
        result = ssh_keygen(["-Y", "sign", "-q", "-f", str(key), "-n", NAMESPACE, str(message)])
        if result.returncode != 0:
            said = result.stderr.decode(errors="replace").strip()
            reason = said.splitlines() or ["no reason given"]
            raise UsageError("approval.key", f"cannot sign: {reason[-1]}", str(key))
        return message.with_name("digest.sig").read_bytes()


def verify(
    bundle_sha256: str,
    person: str,
    signature: Path,
    allowed_signers: Path,
    at: datetime | None = None,
) -> Approval:
    """Check one signature against the list of those who may approve.

    Args:
        bundle_sha256: what was approved.
        person: who says to have approved.
        signature: file with the armoured signature.
        allowed_signers: the list.
        at: the time that keys must be valid at; the clock's if absent.

    Raises:
        RejectedError: ``approval.signature``, ``approval.person``, ``approval.revoked``.
        EnvironmentNotReadyError: ``approval.allowed-signers``.
    """
    check_person(person)
    check_list(allowed_signers)
    moment = (at or datetime.now(UTC)).astimezone(UTC).strftime("%Y%m%d%H%M%SZ")
    arguments = ["-Y", "verify", "-f", str(allowed_signers), "-I", person, "-n", NAMESPACE]
    arguments += ["-s", str(signature), "-O", f"verify-time={moment}"]
    result = ssh_keygen(arguments, statement(bundle_sha256))
    match = _GOOD.search(result.stdout.decode(errors="replace"))
    if result.returncode != 0 or not match or match[1] != person:
        raise RejectedError(
            "approval.signature",
            f"signature of {person!r} is not valid for this bundle. The key must stand in "
            f'{allowed_signers} for this person with namespaces="{NAMESPACE}" and be valid now',
            signature.name,
        )
    revoked = allowed_signers.with_name(REVOKED_FILE)
    if revoked.exists():
        _check_place(revoked, revoked, stat.S_ISREG)
        if ssh_keygen([*arguments, "-r", str(revoked)], statement(bundle_sha256)).returncode != 0:
            raise RejectedError(
                "approval.revoked",
                f"the key of {person!r} stands in {revoked}, or that file is damaged",
                signature.name,
            )
    return Approval(person, match[3])


def add(
    folder: Path,
    bundle_sha256: str,
    person: str,
    signature: bytes,
    allowed_signers: Path,
    *,
    at: datetime | None = None,
) -> Approval:
    """Verify a signature and keep it as ``<person>.sig``.

    Raises:
        RejectedError, EnvironmentNotReadyError: see :func:`verify`; also ``approval.same-key``.
    """
    check_person(person)
    with tempfile.TemporaryDirectory(prefix="tresor-approve-") as temporary:
        candidate = Path(temporary) / f"{person}.sig"
        candidate.write_bytes(signature)
        approval = verify(bundle_sha256, person, candidate, allowed_signers, at)
    for other in collect(folder, bundle_sha256, allowed_signers, at):
        if other.key == approval.key and other.person != person:
            raise RejectedError(
                "approval.same-key", f"{other.person} approved with the same key", person
            )
    write_atomic(folder / f"{person}.sig", signature, 0o600)
    return approval


def collect(
    folder: Path, bundle_sha256: str, allowed_signers: Path, at: datetime | None = None
) -> list[Approval]:
    """Verify all signatures kept for a bundle, again.

    Raises:
        RejectedError: ``approval.kept``: a signature is not valid any more.
        EnvironmentNotReadyError: see :func:`verify`.
    """
    paths = sorted(folder.glob("*.sig")) if folder.is_dir() else []
    return [_kept(bundle_sha256, path, allowed_signers, at) for path in paths]


def _kept(bundle_sha256: str, path: Path, allowed_signers: Path, at: datetime | None) -> Approval:
    try:
        return verify(bundle_sha256, path.stem, path, allowed_signers, at)
    except (RejectedError, UsageError) as error:
        raise RejectedError(
            "approval.kept",
            f"the kept approval of {path.stem!r} is not valid any more: the person or the key left "
            f"{allowed_signers}, or it is for another bundle. Withdraw it with "
            f"'rm {shlex.quote(str(path))}' and repeat the command; then somebody who stands in "
            "the list approves: approve --key FILE --person NAME",
            str(path),
        ) from error


def require(approvals: list[Approval]) -> None:
    """Refuse less than two people with two keys.

    Raises:
        RejectedError: rule ``approval.count``.
    """
    people = {approval.person.casefold() for approval in approvals}
    keys = {approval.key for approval in approvals}
    if len(people) < REQUIRED_APPROVALS or len(keys) < REQUIRED_APPROVALS:
        names = ", ".join(sorted(approval.person for approval in approvals)) or "nobody"
        raise RejectedError(
            "approval.count",
            f"approved by {names}: {REQUIRED_APPROVALS} different people with different keys are "
            "needed. Next: approve --key FILE --person NAME",
        )


def check_person(person: str) -> None:
    """Refuse names that could be a pattern or a path.

    Raises:
        UsageError: rule ``approval.person``.
    """
    if not _PERSON.fullmatch(person):
        raise UsageError("approval.person", f"{person!r} is not a name (A-Za-z0-9._@-)")


def check_list(path: Path) -> None:
    """Refuse a list that others could change, or whose lines mean more than one person.

    Raises:
        EnvironmentNotReadyError: rule ``approval.allowed-signers``.
    """
    _check_place(path.parent, path, stat.S_ISDIR)
    _check_place(path, path, stat.S_ISREG)
    with path.open("rb") as stream:
        raw = stream.read(_MAX_LIST_BYTES + 1)
    for number, line in enumerate(raw.decode("utf-8", "replace").splitlines(), 1):
        text = line.strip()
        if text and not text.startswith("#"):
            wrong = _wrong_line(text)
            if wrong:
                raise EnvironmentNotReadyError(
                    "approval.allowed-signers",
                    f"line {number} {wrong}; write 'name namespaces=\"{NAMESPACE}\" key'",
                    str(path),
                )
    if len(raw) > _MAX_LIST_BYTES:
        raise EnvironmentNotReadyError("approval.allowed-signers", "more than 1 MiB", str(path))


def _wrong_line(text: str) -> str:
    """Return what is wrong with a line of the list; empty if nothing is."""
    person, _, rest = text.partition(" ")
    if not _PERSON.fullmatch(person):
        return f"names {person!r}, which is a pattern or several people"
    options, found = rest.lstrip(), {}
    while match := re.match(r"([a-z-]+)=\"([^\"]*)\"(,|\s+)", options):
        found[match[1]] = match[2]
        options = options[match.end() :]
    unknown = sorted(set(found) - {"namespaces", "valid-after", "valid-before"})
    if unknown:
        return f"has the option {unknown[0]!r}"
    if NAMESPACE not in found.get("namespaces", "").split(","):
        return f'lacks namespaces="{NAMESPACE}"'
    try:
        parse_public(options)
    except UsageError as error:
        return f"has no usable key ({error})"
    return ""


def _check_place(place: Path, listed: Path, kind: Callable[[int], bool]) -> None:
    rule = "approval.allowed-signers"
    try:
        info = place.lstat() if place == listed else place.stat()
    except OSError as error:
        raise EnvironmentNotReadyError(
            rule,
            f"cannot read the list of approvers: {error.strerror}; write lines "
            f"'name namespaces=\"{NAMESPACE}\" ssh-ed25519 AAAA…'",
            str(listed),
        ) from error
    if not kind(info.st_mode):
        raise EnvironmentNotReadyError(
            rule, "the list of approvers must be a regular file in a folder, no link", str(place)
        )
    if info.st_uid not in {0, os.geteuid()}:
        raise EnvironmentNotReadyError(
            rule,
            f"belongs to user id {info.st_uid}, who could add approvers: chown root {place}",
            str(place),
        )
    if info.st_mode & 0o022:
        raise EnvironmentNotReadyError(
            rule,
            f"mode is {stat.S_IMODE(info.st_mode):04o}, others could add approvers: "
            f"chmod go-w {place}",
            str(place),
        )
