"""Write the bundle's directory: blobs, manifest, bootstrap; then swap it in as a whole."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bundle.builder.blobs import Blob, BlobStore
from bundle.builder.content import PartContent
from bundle.builder.context import require_space
from bundle.builder.errors import BuilderError, LockError
from bundle.builder.lock import HeaderLock, PartLock
from bundle.builder.progress import Progress, say
from bundle.builder.wheels import link_wheels
from tresor.bundle import pyz
from tresor.bundle.canonical import dump_canonical
from tresor.bundle.errors import BundleError
from tresor.bundle.signing import create_lab_keys, place_manifest, root_fingerprint, sign_bundle

_MARGIN_BYTES = 100_000_000


@dataclass(frozen=True, slots=True)
class Built:
    """A finished bundle: its folder, the manifest's digest, counts and bytes of its contents.

    ``changed`` tells whether the folder held another manifest before.
    """

    folder: Path
    id: str
    digest: str
    parts: int
    files: int
    size: int
    signed: bool
    changed: bool

    def to_json(self) -> str:
        """Return the values as one line of JSON."""
        values = {**asdict(self), "folder": str(self.folder)}
        return json.dumps(values, sort_keys=True)


def manifest(
    header: HeaderLock,
    audience: Mapping[str, Any],
    contents: Sequence[PartContent],
    base: Mapping[str, str] | None = None,
) -> bytes:
    """Return the bytes of ``bundle.json`` in canonical form."""
    parts = sorted((dict(content.entry) for content in contents), key=lambda part: part["name"])
    models = sorted(
        (dict(content.model) for content in contents if content.model is not None),
        key=lambda model: model["name"],
    )
    return dump_canonical(
        {
            "schema": "bundle/v1",
            "id": header.id,
            "serial": header.serial,
            "created": header.created.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "expires": header.expires.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "audience": dict(audience),
            "base": dict(base) if base else None,
            "parts": parts,
            "models": models,
        }
    )


def assemble(
    raw: bytes,
    contents: Sequence[PartContent],
    importer: PartLock,
    store: BlobStore,
    out: Path,
    *,
    keys: Path | None,
    verify: bool,
    held: frozenset[str] = frozenset(),
) -> Built:
    """Write ``out/bundle`` and return what it is.

    The folder is built beside its place and swapped in at the end: a reader sees the old bundle or
    the new one.

    Args:
        raw: the manifest.
        contents: what the manifest lists.
        importer: lock of the wheels that travel inside the importer.
        store: the cache; contents are hardlinked where the file system allows it.
        out: parent of the folder ``bundle``.
        keys: folder of the signing keys; None leaves the bundle unsigned.
        verify: read every content again before it is carried.
        held: contents that the site has already; they are left out of the medium.

    Raises:
        SpaceError, DigestError, BuilderError: nothing is swapped in then.
    """
    wanted = {
        Blob(entry["sha256"], entry["size"])
        for content in contents
        for entry in content.entry["files"]
    }
    absent = sorted(blob for blob in wanted if not store.has(blob))
    if absent:
        raise LockError(f"content {absent[0].sha256} is not in the cache: run 'fetch' first")
    wanted = {blob for blob in wanted if blob.sha256 not in held}
    out.mkdir(parents=True, exist_ok=True)
    total = sum(blob.size for blob in wanted)
    if out.stat().st_dev != store.cache.stat().st_dev:
        require_space(out, total + _MARGIN_BYTES, "the bundle")
    fresh = out / "bundle.new"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir()
    try:
        _place_blobs(sorted(wanted), store, fresh, verify=verify)
        digest = place_manifest(fresh, raw)
        (fresh / "volume.json").write_bytes(dump_canonical({"volume": 1, "volumes": 1}))
        _place_importer(importer, store, fresh / "bootstrap")
        if keys is not None:
            sign_bundle(fresh, keys)
            # For comparing with the fingerprint given out of band; the importer does not read it.
            fingerprint = root_fingerprint(keys)
            (fresh / "bootstrap/root.sha256").write_text(f"{fingerprint}\n", encoding="utf-8")
    except BaseException as error:
        shutil.rmtree(fresh, ignore_errors=True)
        if not isinstance(error, BundleError):
            raise
        raise BuilderError(f"the trust core refuses the new bundle: {error}") from error
    place = out / "bundle"
    changed = not (place / f"targets/{digest}.bundle.json").exists()
    _swap(fresh, place)
    return Built(
        folder=place,
        id=json.loads(raw)["id"],
        digest=digest,
        parts=len(contents),
        files=sum(len(content.entry["files"]) for content in contents),
        size=total,
        signed=keys is not None,
        changed=changed,
    )


def _place_blobs(blobs: Sequence[Blob], store: BlobStore, folder: Path, *, verify: bool) -> None:
    for shard in sorted({blob.sha256[:2] for blob in blobs}):
        (folder / "blobs" / shard).mkdir(parents=True)
    with Progress("assemble", len(blobs)) as progress:
        for blob in blobs:
            if verify:
                store.verify(blob)
            source = store.path(blob.sha256)
            target = folder / "blobs" / blob.sha256[:2] / blob.sha256
            try:
                os.link(source, target)
            except OSError:  # another file system, or too many links
                shutil.copyfile(source, target)
                target.chmod(0o444)
            progress.add()


def _place_importer(lock: PartLock, store: BlobStore, folder: Path) -> None:
    """Build the importer; the same wheels and sources give the same bytes."""
    folder.mkdir()
    with store.workdir("importer") as work:
        link_wheels(lock.files, store, work)
        digest = pyz.build(folder / "importer.pyz", sorted(work.glob("*.whl")))
    (folder / "importer.pyz.sha256").write_text(f"{digest}  importer.pyz\n", encoding="utf-8")


def _swap(fresh: Path, place: Path) -> None:
    old = place.with_name("bundle.old")
    shutil.rmtree(old, ignore_errors=True)
    if place.exists():
        place.rename(old)
    fresh.rename(place)
    shutil.rmtree(old, ignore_errors=True)


def describe(built: Built) -> None:
    """Print what was built."""
    say(
        f"built {built.id} in {built.folder}: {built.parts} parts, {built.files} files, "
        f"{built.size / 1e6:.0f} MB, bundle.json sha256 {built.digest}"
    )
    if not built.signed:
        say("this bundle is NOT SIGNED and no importer will take it; sign it with --keys FOLDER")


def create_keys(folder: Path) -> None:
    """Create a lab's signing keys, or keep the complete set that is there.

    Raises:
        BuilderError: the folder holds a part of a set.
    """
    try:
        fingerprint = create_lab_keys(folder)
    except BundleError as error:
        raise BuilderError(f"keys in {folder}: {error}") from error
    say(f"lab keys in {folder}, fingerprint of the root {fingerprint}")
