"""Models and adapters from a Hugging Face snapshot: a folder, or a server with its protocol.

A source of type ``huggingface`` has below its base either ``<owner>/<name>/...`` (a plain folder),
the hub's own cache (``models--<owner>--<name>/snapshots/<revision>/...``), or a server's
``api/models/<repository>/revision/<revision>`` and ``<repository>/resolve/<revision>/<file>``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from bundle.builder import sources
from bundle.builder.blobs import BlobStore
from bundle.builder.errors import FetchError, SpecError
from bundle.builder.lock import LockedFile
from bundle.builder.progress import Progress
from tresor.policy.models import is_allowed_file

_MAX_FILES = 2_000


def resolve(want: Mapping[str, Any], store: BlobStore) -> list[LockedFile]:
    """Return the lock entries of a snapshot's files that a model may carry, fetched.

    Raises:
        FetchError: the source has no such snapshot.
        SpecError: no weights among its files.
    """
    wanted = want["source"]
    source = sources.get(wanted["snapshot_of"], "huggingface")
    repository, revision = wanted["repository"], wanted["revision"]
    prefix, names = _listing(source, repository, revision)
    chosen = sorted(name for name in names if is_allowed_file(name))
    if not any(name.endswith(".safetensors") for name in chosen):
        raise SpecError(
            f"{want['name']}: {repository} at {revision} has no safetensors file (seen: "
            f"{', '.join(sorted(names)[:10])}): choose a revision that has, or convert it"
        )
    entries = []
    with Progress(f"resolve {want['name']}", len(chosen)) as progress:
        for name in chosen:
            path = f"{prefix}/{name}"
            blob = sources.fetch(source, path, store)
            extra = {"source": source.name, "path": path}
            entries.append(LockedFile(name, revision, name, blob.size, blob.sha256, extra))
            progress.add()
    return entries


def fetch(entries: tuple[LockedFile, ...], store: BlobStore, part: str) -> None:
    """Bring missing files of a snapshot into the cache."""
    missing = [entry for entry in entries if not store.has(entry.blob)]
    if not missing:
        return
    with Progress(f"fetch {part}", len(missing), sum(entry.size for entry in missing)) as progress:
        for entry in missing:
            source = sources.get(str(entry.extra["source"]), "huggingface")
            sources.fetch(source, str(entry.extra["path"]), store, entry.blob)
            progress.add(1, entry.size)


def _listing(source: sources.Source, repository: str, revision: str) -> tuple[str, list[str]]:
    if source.base.startswith("file:"):
        root = Path(url2pathname(urlsplit(source.base).path))
        owner, _, bare = repository.partition("/")
        for prefix in (f"models--{owner}--{bare}/snapshots/{revision}", repository):
            folder = root / prefix
            if folder.is_dir():
                names = [
                    path.relative_to(folder).as_posix()
                    for path in sorted(folder.rglob("*"))
                    if path.is_file()
                ]
                return prefix, names[:_MAX_FILES]
        raise FetchError(
            f"source {source.name}: {root} has neither {repository} nor a snapshot {revision} of it"
        )
    raw = sources.text(source, f"api/models/{repository}/revision/{revision}")
    try:
        data = json.loads(raw)
        seen, rows = data["sha"], data["siblings"]
        names = [str(row["rfilename"]) for row in rows]
    except (ValueError, KeyError, TypeError) as error:
        raise FetchError(f"source {source.name}: answer on {repository} is no listing") from error
    if seen != revision or len(names) > _MAX_FILES:
        raise FetchError(
            f"source {source.name}: asked for {revision}, got {seen}, {len(names)} files"
        )
    return f"{repository}/resolve/{revision}", names
