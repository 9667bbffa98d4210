"""Signed metadata: from a root fingerprint to the digest of ``bundle.json``. Pure.

The four TUF roles vouch for one target, ``bundle.json``. python-tuf does the client workflow;
this module feeds it bytes, fixes the time it judges by, and adds what an offline medium needs:
one byte form per file, no unused signatures, thresholds that count key material, keys that end.
Keys are Ed25519 or OpenSSH's; the latter are checked by ``ssh-keygen`` (see ``sshsig``).
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from tuf.api import exceptions as tuf_errors
from tuf.api.metadata import Metadata, Root
from tuf.ngclient._internal.trusted_metadata_set import TrustedMetadataSet
from tuf.ngclient.config import EnvelopeType

from .canonical import dump_canonical, load_strict, sha256_hex
from .errors import RejectedError
from .rolekeys import check_keys, check_not_ended, check_policy, name_of

TARGET_NAME = "bundle.json"
MAX_METADATA_BYTES = 512 * 1024
MAX_ROOT_ROTATIONS = 64

_KEYID = re.compile(r"[0-9a-f]{64}")
_SIGNATURE = re.compile(r"([0-9a-f]{2}){64,2048}")
_BOOTSTRAP_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{0,63}")
_MALFORMED = (ValueError, TypeError, KeyError, AttributeError, RecursionError)

Fetch = Callable[[str], "bytes | None"]
"""Return the bytes of a metadata file by name (``3.root.json``), or None if there is none."""


@dataclass(frozen=True, slots=True)
class TrustedState:
    """Metadata accepted by an earlier import; it can only be replaced by newer.

    ``roots`` holds the SHA-256 of every root accepted so far, by version.
    """

    root: bytes
    timestamp: bytes | None = None
    snapshot: bytes | None = None
    roots: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class VerifiedMetadata:
    """What the signatures vouch for, and the bytes to keep for the next import.

    ``bootstrap`` holds SHA-256 and size of each file of the folder ``bootstrap`` by name; None if
    the bundle was signed without listing them. ``released_by`` names
    the keys that signed the release.
    """

    bundle_sha256: str
    bundle_size: int
    version: int
    state: TrustedState
    files: frozenset[str]
    single_key: bool
    bootstrap: Mapping[str, tuple[str, int]] | None = None
    released_by: tuple[str, ...] = ()


def first_root(raw: bytes | None, fingerprint: str) -> bytes:
    """Return the first root metadata if it is the one the operator was told about.

    Args:
        raw: bytes of ``1.root.json``, None if the medium has none.
        fingerprint: its SHA-256 in hex, given out of band.

    Raises:
        RejectedError: rules ``signature.root-missing``, ``signature.root-fingerprint``.
    """
    if raw is None:
        raise RejectedError("signature.root-missing", "no first root metadata", "tuf/1.root.json")
    seen = sha256_hex(raw)
    if seen != fingerprint.lower():
        raise RejectedError(
            "signature.root-fingerprint",
            f"SHA-256 is {seen}, you asked for {fingerprint}: other keys made this bundle. "
            "Compare with the fingerprint you got on paper",
            "tuf/1.root.json",
        )
    return raw


def verify(
    fetch: Fetch, previous: TrustedState, now: datetime, *, allow_single_key: bool
) -> VerifiedMetadata:
    """Walk root, timestamp, snapshot and targets, and return what they vouch for.

    Args:
        fetch: reads a metadata file of the medium.
        previous: the trusted state; for a first import only its ``root`` is set.
        now: the time expiry is judged by (never earlier than any signed time seen).
        allow_single_key: accept a root or targets threshold below two (the lab).

    Raises:
        RejectedError: rules ``signature.*``; ``path`` is the metadata file.
    """
    walk = _Walk(fetch, previous, now)
    walk.rotate_root()
    return walk.finish(walk.check_root_policy(allow_single_key))


class _Walk:
    def __init__(self, fetch: Fetch, previous: TrustedState, now: datetime) -> None:
        self.fetch = fetch
        self.previous = previous
        self.raw: dict[str, bytes] = {"root": previous.root}
        self.files: set[str] = set()
        self.roots: dict[int, str] = {}
        with _named("root.json"):
            _strict(previous.root, "root.json")
            self.trusted = TrustedMetadataSet(previous.root, EnvelopeType.METADATA)
        self.trusted.reference_time = now
        check_keys(self.trusted.root, "tuf/root.json")

    def _read(self, name: str) -> bytes:
        raw = self.fetch(name)
        if raw is None:
            raise RejectedError("signature.missing", "metadata file is missing", f"tuf/{name}")
        _strict(raw, name)
        self.files.add(name)
        return raw

    def rotate_root(self) -> None:
        """Follow newer roots, each signed by the one before it and by itself."""
        known = dict(self.previous.roots)
        known[self.trusted.root.version] = sha256_hex(self.previous.root)
        for version in range(1, self.trusted.root.version + 1):
            # Older roots may travel along, but only those that were trusted here.
            name = f"{version}.root.json"
            raw = self.fetch(name)
            if raw is None:
                continue
            if known.get(version) != sha256_hex(raw):
                raise RejectedError(
                    "signature.root-changed",
                    "root metadata differs from the trusted one of the same version",
                    f"tuf/{name}",
                )
            self.files.add(name)
        self.roots = known
        for _ in range(MAX_ROOT_ROTATIONS):
            name = f"{self.trusted.root.version + 1}.root.json"
            raw = self.fetch(name)
            if raw is None:
                return
            _strict(raw, name)
            before = self.trusted.root
            with _named(name):
                self.trusted.update_root(raw)
                _all_signatures_count(raw, "root", before, self.trusted.root, name=name)
            check_keys(self.trusted.root, f"tuf/{name}")
            self.files.add(name)
            self.raw["root"] = raw
            known[self.trusted.root.version] = sha256_hex(raw)
        raise RejectedError(
            "signature.root-rotations", f"more than {MAX_ROOT_ROTATIONS} new roots", "tuf"
        )

    def check_root_policy(self, allow_single_key: bool) -> bool:
        """Refuse keys under which one alone could release, unless the lab is meant."""
        root = self.trusted.root
        try:
            check_policy(root, f"tuf/{root.version}.root.json")
        except RejectedError:
            if not allow_single_key:
                raise
            return True
        return False

    def finish(self, single_key: bool) -> VerifiedMetadata:
        """Verify timestamp, snapshot and targets."""
        timestamp = self._timestamp()
        snapshot_name = f"{self.trusted.timestamp.snapshot_meta.version}.snapshot.json"
        if self.previous.snapshot is not None:
            # Loaded for its version numbers only: they may not go back.
            with contextlib.suppress(tuf_errors.RepositoryError):
                self.trusted.update_snapshot(self.previous.snapshot, trusted=True)
        snapshot = self._read(snapshot_name)
        with _named(snapshot_name):
            self.trusted.update_snapshot(snapshot)
            self._check_signatures(snapshot, "snapshot", snapshot_name)
            meta = self.trusted.snapshot.meta
            if set(meta) != {"targets.json"}:
                raise tuf_errors.RepositoryError(f"unexpected roles {sorted(meta)}")
        targets_name = f"{meta['targets.json'].version}.targets.json"
        raw = self._read(targets_name)
        with _named(targets_name):
            targets = self.trusted.update_targets(raw)
            released_by = self._check_signatures(raw, "targets", targets_name)
            if targets.delegations is not None or set(targets.targets) != {TARGET_NAME}:
                raise tuf_errors.RepositoryError(f"the only target must be {TARGET_NAME}")
            target = targets.targets[TARGET_NAME]
            digest = target.hashes["sha256"]
            if not _KEYID.fullmatch(digest):
                raise ValueError("target digest is not SHA-256")
            bootstrap = _bootstrap(target.unrecognized_fields)
        return VerifiedMetadata(
            bundle_sha256=digest,
            bundle_size=target.length,
            version=targets.version,
            state=TrustedState(self.raw["root"], timestamp, snapshot, self.roots),
            files=frozenset(self.files),
            single_key=single_key,
            bootstrap=bootstrap,
            released_by=released_by,
        )

    def _check_signatures(self, raw: bytes, role: str, name: str) -> tuple[str, ...]:
        """Refuse signatures that do not count, and those of ended keys; return whose they are."""
        root, path = self.trusted.root, f"tuf/{name}"
        keys = [root.keys[keyid] for keyid in _all_signatures_count(raw, role, root, name=name)]
        for key in keys:
            check_not_ended(key, self.trusted.reference_time, path)
        return tuple(sorted(name_of(key, path) or key.keyid[:16] for key in keys))

    def _timestamp(self) -> bytes:
        name = "timestamp.json"
        if self.previous.timestamp is not None:
            # An expired old timestamp still protects against going back.
            with contextlib.suppress(tuf_errors.RepositoryError):
                self.trusted.update_timestamp(self.previous.timestamp)
        raw = self._read(name)
        with _named(name):
            try:
                self.trusted.update_timestamp(raw)
            except tuf_errors.EqualVersionNumberError:
                if raw != self.previous.timestamp:
                    raise RejectedError(
                        "signature.version-reused",
                        "another bundle was signed under the version number of the trusted one; "
                        "sign it again with a higher serial",
                        f"tuf/{name}",
                    ) from None
            self._check_signatures(raw, "timestamp", name)
        return raw


class _named(contextlib.AbstractContextManager[None]):  # noqa: N801 - used like a function
    """Turn python-tuf's errors into ours, naming the metadata file."""

    def __init__(self, name: str) -> None:
        self.path = f"tuf/{name}"

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None or isinstance(error, RejectedError):
            return
        rules = (
            (tuf_errors.ExpiredMetadataError, "signature.expired"),
            (tuf_errors.UnsignedMetadataError, "signature.invalid"),
            (tuf_errors.BadVersionNumberError, "signature.version"),
            (tuf_errors.LengthOrHashMismatchError, "signature.mixed"),
            (tuf_errors.RepositoryError, "signature.metadata"),
        )
        for cause, rule in rules:
            if isinstance(error, cause):
                raise RejectedError(rule, str(error), self.path) from error
        if isinstance(error, _MALFORMED):
            raise RejectedError("signature.metadata", f"malformed: {error}", self.path) from error


def _strict(raw: bytes, name: str) -> None:
    """Refuse any second byte form of the same metadata (spaces, key order, upper-case hex)."""
    path = f"tuf/{name}"
    data: Any = load_strict(raw, limit=MAX_METADATA_BYTES, rule="signature", path=path)
    if dump_canonical(data) != raw:
        raise RejectedError("signature.canonical", "bytes are not in canonical form", path)
    signatures = data.get("signatures") if isinstance(data, dict) else None
    if set(data) != {"signatures", "signed"} or not isinstance(signatures, list):
        raise RejectedError("signature.metadata", "not signed metadata", path)
    for signature in signatures:
        if (
            not isinstance(signature, dict)
            or set(signature) != {"keyid", "sig"}
            or not _KEYID.fullmatch(str(signature["keyid"]))
            or not _SIGNATURE.fullmatch(str(signature["sig"]))
        ):
            raise RejectedError("signature.metadata", "a signature is malformed", path)


def _bootstrap(extra: Mapping[str, Any]) -> dict[str, tuple[str, int]] | None:
    """Return the signed list of the folder ``bootstrap``.

    Raises:
        ValueError, TypeError, KeyError: it is malformed.
    """
    if not extra:
        return None
    if set(extra) != {"custom"} or set(extra["custom"]) != {"bootstrap"}:
        raise ValueError(f"unexpected fields {sorted(extra)} beside the target")
    found = {}
    for name, entry in extra["custom"]["bootstrap"].items():
        digest, length = entry["sha256"], entry["length"]
        if not _BOOTSTRAP_NAME.fullmatch(name) or set(entry) != {"sha256", "length"}:
            raise ValueError(f"bootstrap file {name!r} is malformed")
        if not _KEYID.fullmatch(digest) or type(length) is not int or length < 0:
            raise ValueError(f"digest or length of bootstrap file {name!r} is malformed")
        found[name] = (digest, length)
    return found


def _all_signatures_count(raw: bytes, role: str, *roots: Root, name: str) -> set[str]:
    """Refuse signatures that verify under no key of the role: nothing unexplained may ride along.

    Returns:
        The ids of the keys that signed.

    Raises:
        RejectedError: rule ``signature.foreign``.
    """
    metadata: Metadata[Any] = Metadata.from_bytes(raw)
    good: set[str] = set()
    for root in roots:
        result = root.get_verification_result(role, metadata.signed_bytes, metadata.signatures)
        good |= set(result.signed)
    foreign = sorted(set(metadata.signatures) - good)
    if foreign:
        raise RejectedError(
            "signature.foreign",
            f"signature {foreign[0][:16]} is not by a key of role {role}, or is wrong",
            f"tuf/{name}",
        )
    return good
