"""Signed metadata: from a root fingerprint to the digest of ``bundle.json``. Pure.

The four TUF roles vouch for one target, ``bundle.json``. python-tuf does the client workflow;
this module feeds it bytes, fixes the time it judges by, and adds what an offline medium needs:
one byte form per file, no unused signatures, Ed25519 only, thresholds that count key material.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tuf.api import exceptions as tuf_errors
from tuf.api.metadata import Metadata, Root
from tuf.ngclient._internal.trusted_metadata_set import TrustedMetadataSet
from tuf.ngclient.config import EnvelopeType

from .canonical import dump_canonical, load_strict, sha256_hex
from .errors import RejectedError

TARGET_NAME = "bundle.json"
MAX_METADATA_BYTES = 512 * 1024
MAX_ROOT_ROTATIONS = 64
ROLES = ("root", "targets", "snapshot", "timestamp")

_KEYID = re.compile(r"[0-9a-f]{64}")
_SIGNATURE = re.compile(r"[0-9a-f]{128}")
_MALFORMED = (ValueError, TypeError, KeyError, AttributeError, RecursionError)

Fetch = Callable[[str], "bytes | None"]
"""Return the bytes of a metadata file by name (``3.root.json``), or None if there is none."""


@dataclass(frozen=True, slots=True)
class TrustedState:
    """Metadata accepted by an earlier import; it can only be replaced by newer."""

    root: bytes
    timestamp: bytes | None = None
    snapshot: bytes | None = None


@dataclass(frozen=True, slots=True)
class VerifiedMetadata:
    """What the signatures vouch for, and the bytes to keep for the next import."""

    bundle_sha256: str
    bundle_size: int
    version: int
    state: TrustedState
    files: frozenset[str]
    single_key: bool


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
    single = walk.check_root_policy(allow_single_key)
    return walk.finish(single)


class _Walk:
    def __init__(self, fetch: Fetch, previous: TrustedState, now: datetime) -> None:
        self.fetch = fetch
        self.previous = previous
        self.raw: dict[str, bytes] = {"root": previous.root}
        self.files: set[str] = set()
        with _named("root.json"):
            _strict(previous.root, "root.json")
            self.trusted = TrustedMetadataSet(previous.root, EnvelopeType.METADATA)
        self.trusted.reference_time = now
        _check_keys(self.trusted.root, "root.json")

    def _read(self, name: str) -> bytes:
        raw = self.fetch(name)
        if raw is None:
            raise RejectedError("signature.missing", "metadata file is missing", f"tuf/{name}")
        _strict(raw, name)
        self.files.add(name)
        return raw

    def rotate_root(self) -> None:
        """Follow newer roots, each signed by the one before it and by itself."""
        for version in range(1, self.trusted.root.version + 1):
            # Older roots may travel along; they are part of the closed world, not of the trust.
            if self.fetch(f"{version}.root.json") is not None:
                self.files.add(f"{version}.root.json")
        current = self.fetch(f"{self.trusted.root.version}.root.json")
        if current is not None and current != self.previous.root:
            raise RejectedError(
                "signature.root-changed",
                "root metadata differs from the trusted one of the same version",
                f"tuf/{self.trusted.root.version}.root.json",
            )
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
            _check_keys(self.trusted.root, name)
            self.files.add(name)
            self.raw["root"] = raw
        raise RejectedError(
            "signature.root-rotations", f"more than {MAX_ROOT_ROTATIONS} new roots", "tuf"
        )

    def check_root_policy(self, allow_single_key: bool) -> bool:
        """Refuse thresholds below two for root and targets unless the lab is meant."""
        root = self.trusted.root
        weak = [role for role in ("root", "targets") if root.roles[role].threshold < 2]
        if weak and not allow_single_key:
            raise RejectedError(
                "signature.threshold",
                f"one key is enough for {', '.join(weak)}: such keys are for the lab. "
                "Import with --accept-scope lab if this machine is one",
                f"tuf/{root.version}.root.json",
            )
        return bool(weak)

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
            _all_signatures_count(snapshot, "snapshot", self.trusted.root, name=snapshot_name)
            meta = self.trusted.snapshot.meta
            if set(meta) != {"targets.json"}:
                raise tuf_errors.RepositoryError(f"unexpected roles {sorted(meta)}")
        targets_name = f"{meta['targets.json'].version}.targets.json"
        raw = self._read(targets_name)
        with _named(targets_name):
            targets = self.trusted.update_targets(raw)
            _all_signatures_count(raw, "targets", self.trusted.root, name=targets_name)
            if targets.delegations is not None or set(targets.targets) != {TARGET_NAME}:
                raise tuf_errors.RepositoryError(f"the only target must be {TARGET_NAME}")
            target = targets.targets[TARGET_NAME]
            digest = target.hashes["sha256"]
            if not _KEYID.fullmatch(digest):
                raise ValueError("target digest is not SHA-256")
        return VerifiedMetadata(
            bundle_sha256=digest,
            bundle_size=target.length,
            version=targets.version,
            state=TrustedState(self.raw["root"], timestamp, snapshot),
            files=frozenset(self.files),
            single_key=single_key,
        )

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
            _all_signatures_count(raw, "timestamp", self.trusted.root, name=name)
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


def _check_keys(root: Root, name: str) -> None:
    """Refuse key types other than Ed25519 and one key under two names."""
    path = f"tuf/{name}"
    for key in root.keys.values():
        public = str(key.keyval.get("public", ""))
        if (key.keytype, key.scheme) != ("ed25519", "ed25519") or not _KEYID.fullmatch(public):
            raise RejectedError(
                "signature.key-type", f"key {key.keyid[:16]} is {key.keytype}/{key.scheme}", path
            )
    if set(root.roles) != set(ROLES):
        raise RejectedError("signature.metadata", f"roles are {sorted(root.roles)}", path)
    for role_name, role in root.roles.items():
        materials = {root.keys[keyid].keyval["public"] for keyid in role.keyids}
        if len(materials) != len(role.keyids):
            raise RejectedError(
                "signature.key-twice", f"role {role_name} counts one key under two names", path
            )


def _all_signatures_count(raw: bytes, role: str, *roots: Root, name: str) -> None:
    """Refuse signatures that verify under no key of the role: nothing unexplained may ride along.

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
