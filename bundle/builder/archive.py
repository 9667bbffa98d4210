"""Take single files out of a wheel (a zip): collections and model files."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Sequence
from typing import Any

from bundle.builder.blobs import BlobStore
from bundle.builder.errors import SpecError
from bundle.builder.lock import LockedFile
from bundle.builder.results import Results

_MAX_MEMBER_BYTES = 2 * 1024**3


def extract(
    wheel: LockedFile, select: Callable[[str], str | None], key: str, store: BlobStore
) -> list[LockedFile]:
    """Store the selected members of a wheel as blobs; remembered by wheel and ``key``.

    Args:
        wheel: the archive, present in the store.
        select: maps a member's name to its path in the part, or to None to leave it out.
        key: changes whenever ``select`` does.
        store: where members go.

    Raises:
        SpecError: a member is unreasonably large.
    """
    results = Results(store)
    cache_key = f"{wheel.sha256[:32]}-{key}"
    cached = results.get("extract", cache_key)
    if cached is not None:
        return cached
    entries: list[LockedFile] = []
    with (
        store.workdir("extract") as folder,
        zipfile.ZipFile(store.path(wheel.sha256)) as archive,
    ):
        for member in archive.infolist():
            path = None if member.is_dir() else select(member.filename)
            if path is None:
                continue
            if member.file_size > _MAX_MEMBER_BYTES:
                raise SpecError(f"{wheel.file}: {member.filename} has {member.file_size} bytes")
            target = folder / "member"
            with archive.open(member) as source, target.open("wb") as sink:
                while chunk := source.read(4 * 1024 * 1024):
                    sink.write(chunk)
            blob = store.add_file(target)
            entries.append(LockedFile(path, wheel.version, path, blob.size, blob.sha256))
    entries.sort(key=lambda entry: entry.file)
    results.put("extract", cache_key, entries)
    return entries


def listing(entries: Sequence[LockedFile]) -> list[dict[str, Any]]:
    """Return path, size and digest per entry, as the lock records outputs."""
    return [{"path": item.file, "size": item.size, "sha256": item.sha256} for item in entries]
