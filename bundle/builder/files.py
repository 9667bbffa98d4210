"""Single files from a named source: release packages of programs, virus signatures, binaries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bundle.builder import sources
from bundle.builder.blobs import Blob, BlobStore
from bundle.builder.errors import DigestError
from bundle.builder.lock import LockedFile
from bundle.builder.progress import Progress, say


def resolve(rows: Sequence[Mapping[str, Any]], store: BlobStore, part: str) -> list[LockedFile]:
    """Fetch the files a spec names and return their lock entries.

    Raises:
        FetchError: a source is not configured, or has no such file.
        DigestError: not the content whose digest the spec gives.
    """
    entries = []
    with Progress(f"resolve {part}", len(rows)) as progress:
        for row in rows:
            blob = sources.fetch(sources.get(row["source"], "files"), row["path"], store)
            wanted = row.get("sha256")
            if wanted and blob.sha256 != wanted:
                raise DigestError(
                    f"{part}: {row['path']} has sha256 {blob.sha256}, the spec says {wanted}: "
                    "find out which of the two its maker published"
                )
            if not wanted:
                say(
                    f"{part}: {row['path']} is locked as it came (sha256 {blob.sha256}): compare "
                    "it with what its maker published and write it into the spec"
                )
            extra = {key: row[key] for key in ("source", "path", "licence") if key in row}
            file = row["path"].rpartition("/")[2]
            entries.append(
                LockedFile(row["name"], row["version"], file, blob.size, blob.sha256, extra)
            )
            progress.add()
    return entries


def fetch(entries: Sequence[LockedFile], store: BlobStore, part: str) -> None:
    """Bring the missing files among ``entries`` that came from named sources into the cache."""
    missing = [entry for entry in entries if "path" in entry.extra and not store.has(entry.blob)]
    if not missing:
        return
    with Progress(f"fetch {part}", len(missing), sum(entry.size for entry in missing)) as progress:
        for entry in missing:
            source = sources.get(str(entry.extra["source"]), "files")
            blob = Blob(entry.sha256, entry.size)
            sources.fetch(source, str(entry.extra["path"]), store, blob)
            progress.add(1, entry.size)
