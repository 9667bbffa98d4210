"""The ceremony that makes and changes the root of trust, and the release of a bundle.

Runs from ``importer.pyz`` on any machine with python3 and openssh, offline. Only OpenSSH keys:
software, FIDO2, PKCS#11. A file gets its real name only when enough people have signed it; until
then it is a draft that no importer takes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from securesystemslib.signer import Signature
from tuf.api.metadata import Metadata, Root, Targets

from .canonical import load_strict, sha256_hex
from .errors import RejectedError, UsageError
from .journal import time_text
from .metadata import (
    dump,
    only_manifest,
    role_end,
    roots_in,
    snapshot,
    targets,
    timestamp,
    write_roots,
)
from .openssh import read_public
from .rolekeys import (
    EXPIRES_FIELD,
    MACHINES,
    NAME,
    NAME_FIELD,
    PEOPLE,
    check_keys,
    check_not_ended,
    check_policy,
    name_of,
)
from .sshsig import KEYTYPE, SCHEME, SshKey, sign
from .trust import MAX_METADATA_BYTES, TrustedState, verify

DRAFT = ".draft.json"
Confirm = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Terms:
    """Thresholds and lifetimes of a root; years and days."""

    root_threshold: int = 2
    approver_threshold: int = 2
    root_years: int = 2
    approver_days: int = 365
    builder_days: int = 90


def draft_root(
    folder: Path,
    added: Mapping[str, Sequence[Path]],
    removed: Sequence[str],
    terms: dict[str, int],
    now: datetime,
) -> Path:
    """Write the draft of the next root: what is not named stays as it is.

    Args:
        folder: where ``<n>.root.json`` lie; empty for the first one.
        added: files ``NAME.pub`` by role: ``root``, ``targets`` (the approvers), ``builder``.
        removed: names whose keys go.
        terms: fields of :class:`Terms` that differ from the default, or from the former root.
        now: from when lifetimes count.

    Raises:
        UsageError, RejectedError: ``keys.*``, ``signature.*``: what makes such a root unsafe.
    """
    first = not list(folder.glob("*.root.json")) if folder.is_dir() else True
    values = Terms(**terms)
    if first:
        root = Root(version=1, consistent_snapshot=True)
    else:
        root = load_root(roots_in(folder)[-1])
        root.version += 1
    root.expires = now + timedelta(days=365 * values.root_years)
    for name in removed:
        _remove(root, name)
    roles = {"root": ("root",), "targets": ("targets",), "builder": MACHINES}
    for group, files in added.items():
        for file in files:
            _add(root, roles[group], file, _key_end(group, values, now))
    for role, key in (("root", "root_threshold"), ("targets", "approver_threshold")):
        if first or key in terms:
            root.roles[role].threshold = getattr(values, key)
    _check_newload_root(root, now)
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    old = next(folder.glob(f"*.root{DRAFT}"), None)
    if old is not None:
        raise UsageError("keys.draft", "a draft lies there; sign it or remove it first", str(old))
    draft = folder / f"{root.version}.root{DRAFT}"
    draft.write_bytes(dump(Metadata(root)))
    return draft


def _key_end(group: str, terms: Terms, now: datetime) -> datetime | None:
    days = {"targets": terms.approver_days, "builder": terms.builder_days}.get(group)
    return None if days is None else now + timedelta(days=days)


def _add(root: Root, roles: Sequence[str], file: Path, end: datetime | None) -> None:
    public, name = read_public(file), file.name.removesuffix(".pub")
    if not NAME.fullmatch(name):
        raise UsageError("keys.name", f"{name!r} is not a name; call the file NAME.pub", str(file))
    extra = {NAME_FIELD: name}
    if end is not None:
        extra[EXPIRES_FIELD] = time_text(end)
    if public.keyid in root.keys:
        raise UsageError(
            "keys.twice", f"this key already stands for {name_of(root.keys[public.keyid], '')}",
            str(file),
        )  # fmt: skip
    key = SshKey(public.keyid, KEYTYPE, SCHEME, {"public": public.text}, extra)
    for role in roles:
        root.add_key(key, role)


def _remove(root: Root, name: str) -> None:
    found = [key.keyid for key in root.keys.values() if name_of(key, "") == name]
    if not found:
        names = ", ".join(sorted({name_of(key, "") for key in root.keys.values()}))
        raise UsageError("keys.name", f"no key of {name!r}; there are {names}")
    for keyid in found:
        for role, entry in root.roles.items():
            if keyid in entry.keyids:
                root.revoke_key(keyid, role)


def _check_newload_root(root: Root, now: datetime) -> None:
    check_policy(root, "the draft")
    check_keys(root, "the draft")
    for role in PEOPLE:
        keyids, threshold = root.roles[role].keyids, root.roles[role].threshold
        if len(keyids) <= threshold:
            raise UsageError(
                "keys.spare",
                f"role {role} has {len(keyids)} keys and needs {threshold} signatures: one lost "
                "key would lock everybody out; name at least one more",
            )
    for role in MACHINES:
        if not root.roles[role].keyids:
            raise UsageError("keys.builder", "name the builder's key with --builder NAME.pub")
    shared = set(root.roles["root"].keyids) & set(root.roles["targets"].keyids)
    if shared:
        raise UsageError("keys.twice", "one key is in the roles root and targets; use two")
    for key in root.keys.values():
        check_not_ended(key, now, "the draft")


def draft_release(bundle: Path, roots: Path) -> Path:
    """Write ``tuf/<n>.targets.draft.json`` into a bundle, for the approvers to sign.

    Raises:
        UsageError: no manifest, no root.
    """
    manifest, _ = only_manifest(bundle)
    listed = roots_in(roots)
    root = load_root(listed[-1])
    end = role_end(root, "targets", manifest.expires)
    release = targets(bundle, manifest.serial, end)
    write_roots(listed, bundle / "tuf")
    draft = bundle / "tuf" / f"{manifest.serial}.targets{DRAFT}"
    draft.write_bytes(dump(Metadata(release)))
    return draft


def sign_draft(draft: Path, key: Path, now: datetime, confirm: Confirm | None = None) -> Path:
    """Add one signature; with the last one that is needed the file gets its real name.

    Args:
        draft: ``<n>.root.draft.json`` or ``<n>.targets.draft.json``.
        key: see :func:`tresor.bundle.sshsig.sign`.
        now: ended keys may not sign.
        confirm: called with the digest of what is signed, before it is.

    Returns:
        The file: the draft, or the finished one.

    Raises:
        UsageError: rules ``keys.*``.
    """
    if not draft.name.endswith(DRAFT):
        raise UsageError("keys.draft", "only drafts are signed", str(draft))
    metadata = load(draft)
    role, judges = judges_of(draft, metadata)
    public = read_public(key)
    if not any(public.keyid in judge.roles[role].keyids for judge in judges):
        raise UsageError(
            "keys.role", f"{public.fingerprint} is no key of the role {role}", str(key)
        )
    mine = next(judge.keys[public.keyid] for judge in judges if public.keyid in judge.keys)
    if role != "root":
        check_not_ended(mine, now, str(draft))
    if confirm is not None:
        confirm(sha256_hex(metadata.signed_bytes))
    raw = sign(key, metadata.signed_bytes)
    metadata.signatures[public.keyid] = Signature(public.keyid, raw.hex())
    draft.write_bytes(dump(metadata))
    if any(missing(judge, role, metadata) for judge in judges):
        return draft
    final = draft.with_name(draft.name.removesuffix(DRAFT) + ".json")
    return draft.replace(final)


def judges_of(draft: Path, metadata: Metadata[Any]) -> tuple[str, list[Root]]:
    """Return the role, and the roots whose thresholds must be met: for a root the former and it."""
    if isinstance(metadata.signed, Targets):
        return "targets", [load_root(roots_in(draft.parent)[-1])]
    judges = [metadata.signed]
    if metadata.signed.version > 1:
        judges.append(load_root(draft.with_name(f"{metadata.signed.version - 1}.root.json")))
    return "root", judges


def missing(judge: Root, role: str, metadata: Metadata[Any]) -> int:
    """Return how many signatures a root still asks for."""
    result = judge.get_verification_result(role, metadata.signed_bytes, metadata.signatures)
    return max(0, int(judge.roles[role].threshold) - len(result.signed))


def seal(bundle: Path, key: Path, now: datetime) -> Path:
    """Sign snapshot and timestamp, then judge the whole as an importer will.

    Raises:
        UsageError: ``keys.draft``: not enough approvers have signed yet; ``keys.role``.
        RejectedError: an importer would refuse it; nothing was written.
    """
    manifest, _ = only_manifest(bundle)
    folder, number = bundle / "tuf", manifest.serial
    root = load_root(roots_in(folder)[-1])
    place = folder / f"{number}.targets.json"
    if not place.exists():
        raise UsageError("keys.draft", "the release is not signed by enough approvers", str(place))
    public = read_public(key)
    raws = {place.name: place.read_bytes()}
    below = raws[place.name]
    for role, make, name in (
        ("snapshot", snapshot, f"{number}.snapshot.json"),
        ("timestamp", timestamp, "timestamp.json"),
    ):
        if public.keyid not in root.roles[role].keyids:
            raise UsageError("keys.role", f"{public.fingerprint} is no builder's key", str(key))
        metadata = Metadata(make(below, number, role_end(root, role, manifest.expires)))
        raw = sign(key, metadata.signed_bytes)
        metadata.signatures[public.keyid] = Signature(public.keyid, raw.hex())
        below = raws[name] = dump(metadata)
    for path in roots_in(folder):
        raws[path.name] = path.read_bytes()
    first = raws["1.root.json"]
    verified = verify(raws.get, TrustedState(first), now, allow_single_key=False)
    if verified.bundle_sha256 != manifest.digest:
        raise RejectedError("signature.target", "another manifest was released", place.name)
    for name, raw in raws.items():
        (folder / name).write_bytes(raw)
    for old in folder.glob(f"*{DRAFT}"):
        old.unlink()
    (bundle / "bootstrap").mkdir(exist_ok=True)
    (bundle / "bootstrap/root.sha256").write_text(f"{sha256_hex(first)}\n", encoding="ascii")
    return folder / "timestamp.json"


def load_root(path: Path) -> Root:
    """Return a root; raises :class:`UsageError` if the file is none."""
    found = load(path).signed
    if not isinstance(found, Root):
        raise UsageError("keys.form", "is no root metadata", str(path))
    return found


def load(path: Path) -> Metadata[Any]:
    """Return a root or a release, signed or not; raises :class:`UsageError` if it is neither."""
    try:
        raw = path.read_bytes()
        load_strict(raw, limit=MAX_METADATA_BYTES, rule="signature", path=str(path))
        found: Metadata[Any] = Metadata.from_bytes(raw)
    except OSError as error:
        raise UsageError("keys.form", f"cannot read: {error.strerror}", str(path)) from error
    except Exception as error:
        raise UsageError("keys.form", f"is no metadata: {error}", str(path)) from error
    if not isinstance(found.signed, Root | Targets):
        raise UsageError("keys.form", "is neither a root nor a release", str(path))
    return found
