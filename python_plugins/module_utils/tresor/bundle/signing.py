"""The connected side's pen: keys for a lab, and the signed metadata around ``bundle.json``.

Needs ``cryptography`` (the importer only verifies and does not). ``bundle.json`` itself stays
the same for the same lock; signatures live in ``tuf/`` beside it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import (
    Metadata,
    MetaFile,
    Root,
    Signed,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)
from tuf.api.serialization import MetadataSerializer

from .canonical import dump_canonical, sha256_hex
from .errors import UsageError
from .manifest import parse_manifest
from .trust import ROLES, TARGET_NAME

ROOT_FILE = "1.root.json"
LAB_KEYS_PER_ROLE: Mapping[str, int] = {"root": 1, "targets": 1, "snapshot": 1, "timestamp": 1}
ROOT_LIFETIME_DAYS = 730


class _Canonical(MetadataSerializer):  # type: ignore[misc]
    """Writes metadata in the one byte form that the importer accepts."""

    def serialize(self, metadata_obj: Metadata[Any]) -> bytes:
        return dump_canonical(metadata_obj.to_dict())


def create_lab_keys(directory: Path) -> str:
    """Create one Ed25519 key per role and the first root metadata, for a lab.

    Keys are unencrypted PEM files of mode 0600. An existing complete set is kept.

    Args:
        directory: made with mode 0700 if absent.

    Returns:
        The fingerprint (SHA-256, hex) of ``1.root.json``, to be given to the importer out of band.

    Raises:
        UsageError: the folder holds only a part of a key set.
    """
    return create_keys(directory, LAB_KEYS_PER_ROLE, thresholds=dict.fromkeys(ROLES, 1))


def create_keys(
    directory: Path, keys_per_role: Mapping[str, int], *, thresholds: Mapping[str, int]
) -> str:
    """Create keys ``<role>-<n>.pem`` and ``1.root.json``; see :func:`create_lab_keys`."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    names = {role: [f"{role}-{n}.pem" for n in range(1, keys_per_role[role] + 1)] for role in ROLES}
    wanted = [ROOT_FILE, *(name for group in names.values() for name in group)]
    present = [name for name in wanted if (directory / name).exists()]
    if present:
        missing = sorted(set(wanted) - set(present))
        if missing:
            raise UsageError(
                "signing.keys",
                f"the key set is incomplete ({missing[0]} is missing); restore it or use an "
                "empty folder",
                str(directory),
            )
        return root_fingerprint(directory)
    root = Root(
        version=1,
        expires=_whole_seconds(datetime.now(UTC) + timedelta(days=ROOT_LIFETIME_DAYS)),
        consistent_snapshot=True,
    )
    for role in ROLES:
        for name in names[role]:
            signer = CryptoSigner.generate_ed25519()
            _write_private(directory / name, signer.private_bytes)
            root.add_key(signer.public_key, role)
        root.roles[role].threshold = thresholds[role]
    signers = _signers(directory, root, "root")
    (directory / ROOT_FILE).write_bytes(_signed(root, signers))
    return root_fingerprint(directory)


def root_fingerprint(directory: Path) -> str:
    """Return the SHA-256 (hex) of the first root metadata in a key folder."""
    return sha256_hex((directory / ROOT_FILE).read_bytes())


def place_manifest(bundle_dir: Path, raw: bytes) -> str:
    """Write ``raw`` as ``targets/<sha256>.bundle.json`` and return the digest.

    A manifest of an earlier build in the same folder is removed.

    Raises:
        RejectedError: the bytes are not a valid ``bundle.json``.
    """
    parse_manifest(raw)
    digest = sha256_hex(raw)
    folder = bundle_dir / "targets"
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.bundle.json"):
        old.unlink()
    (folder / f"{digest}.{TARGET_NAME}").write_bytes(raw)
    return digest


def sign_bundle(
    bundle_dir: Path,
    keys_dir: Path,
    *,
    expires: datetime | None = None,
    version: int | None = None,
) -> str:
    """Write ``tuf/`` for the one manifest below ``bundle_dir/targets``.

    Args:
        bundle_dir: folder with ``targets/<sha256>.bundle.json`` (see :func:`place_manifest`).
        keys_dir: folder with ``1.root.json`` (and later roots) and private keys ``*.pem``; every
            key that the root names for a role signs that role.
        expires: when the metadata ends; the manifest's own ``expires`` if absent.
        version: metadata version, which only goes forward; the manifest's serial if absent.

    Returns:
        The digest of the manifest.

    Raises:
        UsageError: no or several manifests, a name that is not its digest, too few keys.
        RejectedError: the manifest is not valid.
    """
    raw = _only_manifest(bundle_dir)
    manifest = parse_manifest(raw)
    end = _whole_seconds(expires or manifest.expires)
    number = version if version is not None else manifest.serial
    roots = sorted(keys_dir.glob("*.root.json"), key=lambda path: int(path.name.partition(".")[0]))
    if not roots:
        raise UsageError("signing.keys", "no root metadata; create keys first", str(keys_dir))
    root = Metadata[Root].from_file(str(roots[-1])).signed

    targets = Targets(version=number, expires=end)
    targets.targets[TARGET_NAME] = TargetFile(len(raw), {"sha256": manifest.digest}, TARGET_NAME)
    targets_raw = _signed(targets, _signers(keys_dir, root, "targets"))
    snapshot = Snapshot(
        version=number, expires=end, meta={"targets.json": _meta(targets_raw, number)}
    )
    snapshot_raw = _signed(snapshot, _signers(keys_dir, root, "snapshot"))
    timestamp = Timestamp(version=number, expires=end, snapshot_meta=_meta(snapshot_raw, number))
    timestamp_raw = _signed(timestamp, _signers(keys_dir, root, "timestamp"))

    folder = bundle_dir / "tuf"
    folder.mkdir(exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    for path in roots:
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / f"{number}.targets.json").write_bytes(targets_raw)
    (folder / f"{number}.snapshot.json").write_bytes(snapshot_raw)
    (folder / "timestamp.json").write_bytes(timestamp_raw)
    return manifest.digest


def _only_manifest(bundle_dir: Path) -> bytes:
    found = sorted((bundle_dir / "targets").glob(f"*.{TARGET_NAME}"))
    if len(found) != 1:
        raise UsageError(
            "signing.manifest",
            f"expected one targets/<sha256>.{TARGET_NAME}, found {len(found)}",
            str(bundle_dir),
        )
    raw = found[0].read_bytes()
    if found[0].name != f"{sha256_hex(raw)}.{TARGET_NAME}":
        raise UsageError("signing.manifest", "file name is not its digest", found[0].name)
    return raw


def _signers(keys_dir: Path, root: Root, role: str) -> list[CryptoSigner]:
    """Return signers for every private key in the folder that the root names for the role."""
    from cryptography.hazmat.primitives.serialization import (  # noqa: PLC0415 - connected side only
        load_pem_private_key,
    )

    by_public = {
        root.keys[keyid].keyval["public"]: root.keys[keyid] for keyid in root.roles[role].keyids
    }
    signers = []
    for path in sorted(keys_dir.glob("*.pem")):
        private = load_pem_private_key(path.read_bytes(), password=None)
        public = CryptoSigner(private).public_key.keyval["public"]
        if public in by_public:
            signers.append(CryptoSigner(private, by_public[public]))
    if len(signers) < root.roles[role].threshold:
        raise UsageError(
            "signing.keys",
            f"role {role} needs {root.roles[role].threshold} keys, {len(signers)} found as *.pem",
            str(keys_dir),
        )
    return signers


def _signed(signed: Signed, signers: list[CryptoSigner]) -> bytes:
    metadata: Metadata[Any] = Metadata(signed)
    for signer in signers:
        metadata.sign(signer, append=True)
    raw: bytes = metadata.to_bytes(_Canonical())
    return raw


def _meta(raw: bytes, version: int) -> MetaFile:
    return MetaFile(version, len(raw), {"sha256": sha256_hex(raw)})


def _whole_seconds(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise UsageError("signing.expires", "time has no zone; give a UTC time", str(moment))
    return moment.astimezone(UTC).replace(microsecond=0)


def _write_private(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(content)
