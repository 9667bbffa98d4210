"""Remember what a build step made, by the digest of all its inputs."""

from __future__ import annotations

import json
from collections.abc import Sequence

from bundle.builder.blobs import BlobStore
from bundle.builder.lock import LockedFile


class Results:
    """Files ``results/<step>/<key>.json`` in the cache; contents are blobs."""

    def __init__(self, store: BlobStore) -> None:
        self._store = store
        self._folder = store.cache / "results"

    def get(self, step: str, key: str) -> list[LockedFile] | None:
        """Return what the step made, or None when it did not run or a content is gone."""
        try:
            rows = json.loads((self._folder / step / f"{key}.json").read_text(encoding="utf-8"))
            entries = [LockedFile(**row) for row in rows]
        except (OSError, ValueError, TypeError):
            return None
        return entries if all(self._store.has(entry.blob) for entry in entries) else None

    def put(self, step: str, key: str, entries: Sequence[LockedFile]) -> None:
        """Remember what the step made."""
        folder = self._folder / step
        folder.mkdir(parents=True, exist_ok=True)
        temporary = folder / f"{key}.new"
        temporary.write_text(json.dumps([entry.to_json() for entry in entries]), encoding="utf-8")
        temporary.replace(folder / f"{key}.json")
