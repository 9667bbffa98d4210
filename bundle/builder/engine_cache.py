"""Take a warmed cache of an engine from a build host into the lock: ``engine-cache``.

The build host has the same GPU, driver, environment, model and engine settings as the site's hosts,
ran the engine there and let it compile. What is taken is checked file by file; what the site will
load as code is what is recorded here.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import yaml

from bundle.builder import wheels
from bundle.builder.blobs import BlobStore
from bundle.builder.errors import LockError, SpecError
from bundle.builder.lock import LockedFile, PartLock
from bundle.builder.spec import PartSpec
from tresor.bundle.errors import RejectedError
from tresor.bundle.manifest import FileEntry, model_digest
from tresor.engine_cache import archive, layout
from tresor.engine_cache.record import (
    ARCHIVE_FILE,
    RECORD_FILE,
    CacheFile,
    Fits,
    Record,
    engine_digest,
    fits_of,
    parse,
)

_CHUNK = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Taken:
    """What the command line says: where the cache lies and on what it was made.

    ``requirements`` and ``weights`` are the locks of the environment and of the model.
    """

    folder: Path
    gpu: str
    capability: str
    driver: str
    environment: str
    model: str
    engine: Path
    requirements: PartLock
    weights: PartLock


def take(
    part: PartSpec,
    taken: Taken,
    store: BlobStore,
    inputs: str,
) -> PartLock:
    """Check a cache, put it into the store and return the part's lock.

    Raises:
        SpecError: a file does not belong into a cache, a value has the wrong form.
    """
    try:
        fits = fits_of(
            Fits(
                taken.environment,
                _requirements(taken.requirements),
                taken.gpu,
                taken.capability,
                taken.driver,
                taken.model,
                _model(taken.weights),
                engine_digest(read_engine(taken.engine)),
            ).as_json()
        )
        record = Record(fits, tuple(files(taken.folder)))
        raw = record.dump()
        parse(raw)
    except RejectedError as error:
        raise SpecError(f"{part.name}: {error}") from error
    with store.workdir("cache") as work:
        packed = work / ARCHIVE_FILE
        with packed.open("wb") as target:
            archive.write(record, lambda entry: _open(taken.folder, entry.path), target)
        # What changed since it was hashed is found here: the archive must be what the record says.
        with packed.open("rb") as source:
            archive.check(record, source)
        blob = store.add_file(packed)
    listed = store.add_bytes(raw)
    version = hashlib.sha256(raw).hexdigest()[:16]
    return PartLock(
        part.name,
        part.type,
        inputs,
        (
            LockedFile(RECORD_FILE, version, RECORD_FILE, listed.size, listed.sha256),
            LockedFile(ARCHIVE_FILE, version, ARCHIVE_FILE, blob.size, blob.sha256),
        ),
    )


def fetch(lock: PartLock, store: BlobStore) -> None:
    """See that the cache is in the store; only a build host can give it.

    Raises:
        LockError: it is not.
    """
    for entry in lock.files:
        if not store.has(entry.blob):
            raise LockError(
                f"{lock.part}: {entry.file} ({entry.sha256}) is not in the cache folder: run "
                "'python -m bundle.builder engine-cache' with the build host's folder again"
            )


def files(folder: Path) -> list[CacheFile]:
    """Return the files of a warmed cache, hashed, sorted by path.

    Raises:
        SpecError: a link, a device, or a file that is not one of a cache.
    """
    found = []
    for root, directories, names in os.walk(folder):
        for name in sorted([*names, *directories]):
            path = Path(root) / name
            relative = path.relative_to(folder).as_posix()
            mode = path.lstat().st_mode
            if stat.S_ISDIR(mode):
                continue
            if not stat.S_ISREG(mode):
                raise SpecError(f"{path} is a link, device or socket: a cache has plain files only")
            if layout.is_leftover(relative):
                continue
            wrong = layout.fault(relative)
            if wrong:
                raise SpecError(
                    f"{path}: {wrong}. Warm the cache in an empty folder with "
                    "VLLM_CACHE_ROOT=FOLDER and FLASHINFER_WORKSPACE_BASE=FOLDER/workspace"
                )
            found.append(_hashed(folder, relative))
    if not found:
        raise SpecError(f"{folder} has no file of an engine's cache: run the engine there first")
    return sorted(found, key=lambda entry: entry.path)


def read_engine(path: Path) -> Mapping[str, Any]:
    """Read the instance of the plan (JSON or YAML) that the cache was made with.

    Raises:
        SpecError: unreadable, or no instance.
    """
    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SpecError(f"{path}: cannot be read as JSON or YAML: {error}") from error
    if not isinstance(value, dict) or not {"args", "task"} <= set(value):
        raise SpecError(f"{path}: must be one instance of the plan, with task and args")
    return value


def _open(folder: Path, relative: str) -> BinaryIO:
    handle = os.open(folder / relative, os.O_RDONLY | os.O_NOFOLLOW)
    return os.fdopen(handle, "rb")


def _hashed(folder: Path, relative: str) -> CacheFile:
    digest, size = hashlib.sha256(), 0
    with _open(folder, relative) as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
    if size > layout.MAX_FILE_BYTES:
        raise SpecError(f"{folder / relative} has {size} bytes, at most {layout.MAX_FILE_BYTES}")
    return CacheFile(relative, size, digest.hexdigest())


def _requirements(lock: PartLock) -> str:
    return hashlib.sha256(wheels.requirements_text(list(lock.files)).encode()).hexdigest()


def _model(lock: PartLock) -> str:
    rows: Sequence[Mapping[str, Any]] = lock.details.get("outputs") or [
        {"path": entry.file, "size": entry.size, "sha256": entry.sha256} for entry in lock.files
    ]
    entries = [FileEntry(row["path"], int(row["size"]), row["sha256"]) for row in rows]
    return model_digest(tuple(entries))
