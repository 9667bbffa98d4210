"""The connected side's pen: keys for a lab, and the signed metadata around ``bundle.json``.

Needs ``cryptography`` (the importer only verifies and does not). ``bundle.json`` itself stays
the same for the same lock; signatures live in ``tuf/`` beside it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, Root, Signed

from .canonical import sha256_hex
from .errors import UsageError
from .metadata import (
    only_manifest,
    place_manifest,
    role_end,
    roots_in,
    sign_with,
    snapshot,
    targets,
    timestamp,
    whole_seconds,
    write_roots,
)
from .rolekeys import ROLES

__all__ = ["create_keys", "create_lab_keys", "place_manifest", "root_fingerprint", "sign_bundle"]

ROOT_FILE = "1.root.json"
LAB_KEYS_PER_ROLE: Mapping[str, int] = {"root": 1, "targets": 1, "snapshot": 1, "timestamp": 1}
ROOT_LIFETIME_DAYS = 730


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
        expires=whole_seconds(datetime.now(UTC) + timedelta(days=ROOT_LIFETIME_DAYS)),
        consistent_snapshot=True,
    )
    for role in ROLES:
        for name in names[role]:
            signer = CryptoSigner.generate_ed25519()
            _write_private(directory / name, signer.private_bytes)
            root.add_key(signer.public_key, role)
        root.roles[role].threshold = thresholds[role]
    signers = _signers(directory, root, "root")
    (directory / ROOT_FILE).write_bytes(sign_with(root, signers))
    return root_fingerprint(directory)


def root_fingerprint(directory: Path) -> str:
    """Return the SHA-256 (hex) of the first root metadata in a key folder."""
    return sha256_hex((directory / ROOT_FILE).read_bytes())


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
    manifest, _ = only_manifest(bundle_dir)
    end = whole_seconds(expires or manifest.expires)
    number = version if version is not None else manifest.serial
    roots = roots_in(keys_dir)
    root = Metadata[Root].from_file(str(roots[-1])).signed

    def written(role: str, signed: Signed) -> bytes:
        return sign_with(signed, _signers(keys_dir, root, role))

    targets_raw = written("targets", targets(bundle_dir, number, role_end(root, "targets", end)))
    snapshot_raw = written(
        "snapshot", snapshot(targets_raw, number, role_end(root, "snapshot", end))
    )
    timestamp_raw = written(
        "timestamp", timestamp(snapshot_raw, number, role_end(root, "timestamp", end))
    )
    folder = bundle_dir / "tuf"
    write_roots(roots, folder)
    (folder / f"{number}.targets.json").write_bytes(targets_raw)
    (folder / f"{number}.snapshot.json").write_bytes(snapshot_raw)
    (folder / "timestamp.json").write_bytes(timestamp_raw)
    return manifest.digest


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


def _write_private(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(content)
