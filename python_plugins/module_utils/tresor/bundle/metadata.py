"""The four roles' metadata around a ``bundle.json``: what is to be signed, in its one byte form."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

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
from .manifest import BundleManifest, parse_manifest
from .medium import BOOTSTRAP, ROOT_FINGERPRINT
from .rolekeys import end_of
from .trust import TARGET_NAME


class Canonical(MetadataSerializer):  # type: ignore[misc]
    """Writes metadata in the one byte form that the importer accepts."""

    def serialize(self, metadata_obj: Metadata[Any]) -> bytes:
        """Return the bytes."""
        return dump_canonical(metadata_obj.to_dict())


def dump(metadata: Metadata[Any]) -> bytes:
    """Return the bytes of signed, half-signed or unsigned metadata."""
    raw: bytes = metadata.to_bytes(Canonical())
    return raw


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


def only_manifest(bundle_dir: Path) -> tuple[BundleManifest, bytes]:
    """Return the one manifest of a bundle that is being made.

    Raises:
        UsageError: none or several, or a name that is not its digest.
        RejectedError: it is not valid.
    """
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
    return parse_manifest(raw), raw


def targets(bundle_dir: Path, version: int, expires: datetime) -> Targets:
    """Return the release that the approvers sign: the manifest, and the files of first contact."""
    manifest, raw = only_manifest(bundle_dir)
    extra: dict[str, Any] = {}
    folder = bundle_dir / BOOTSTRAP
    listed = {
        path.name: {"sha256": sha256_hex(path.read_bytes()), "length": path.stat().st_size}
        for path in (sorted(folder.iterdir()) if folder.is_dir() else [])
        if path.name != ROOT_FINGERPRINT  # checked against the root itself
    }
    if listed:
        extra = {"custom": {"bootstrap": listed}}
    found = Targets(version=version, expires=expires)
    found.targets[TARGET_NAME] = TargetFile(
        len(raw), {"sha256": manifest.digest}, TARGET_NAME, extra
    )
    return found


def snapshot(targets_raw: bytes, version: int, expires: datetime) -> Snapshot:
    """Return the builder's word on which release this is."""
    return Snapshot(
        version=version, expires=expires, meta={"targets.json": _meta(targets_raw, version)}
    )


def timestamp(snapshot_raw: bytes, version: int, expires: datetime) -> Timestamp:
    """Return the builder's word on which one is the newest."""
    return Timestamp(version=version, expires=expires, snapshot_meta=_meta(snapshot_raw, version))


def roots_in(folder: Path) -> list[Path]:
    """Return ``<n>.root.json`` of a folder in order.

    Raises:
        UsageError: there is none, or a version is left out.
    """
    found = sorted(folder.glob("*.root.json"), key=lambda path: int(path.name.partition(".")[0]))
    if not found:
        raise UsageError("signing.keys", "no root metadata; create keys first", str(folder))
    numbers = [int(path.name.partition(".")[0]) for path in found]
    if numbers != list(range(1, len(numbers) + 1)):
        raise UsageError("signing.keys", f"roots are {numbers}, one is missing", str(folder))
    return found


def write_roots(roots: Iterable[Path], folder: Path) -> None:
    """Copy the roots beside the release's metadata, from where the older are removed."""
    folder.mkdir(exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    for path in roots:
        (folder / path.name).write_bytes(path.read_bytes())


def role_end(root: Root, role: str, wanted: datetime) -> datetime:
    """Return until when metadata of a role can be good: not longer than the keys that sign it."""
    ends = [end_of(root.keys[keyid], "root.json") for keyid in root.roles[role].keyids]
    return min([wanted, *(end for end in ends if end is not None)])


def whole_seconds(moment: datetime) -> datetime:
    """Return a UTC time without fractions.

    Raises:
        UsageError: it has no zone.
    """
    if moment.tzinfo is None:
        raise UsageError("signing.expires", "time has no zone; give a UTC time", str(moment))
    return moment.astimezone(UTC).replace(microsecond=0)


def sign_with(signed: Signed, signers: Iterable[Any]) -> bytes:
    """Return metadata signed by all signers."""
    metadata: Metadata[Any] = Metadata(signed)
    for signer in signers:
        metadata.sign(signer, append=True)
    return dump(metadata)


def _meta(raw: bytes, version: int) -> MetaFile:
    return MetaFile(version, len(raw), {"sha256": sha256_hex(raw)})
