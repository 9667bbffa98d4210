"""Digests of the shards of large contents: a medium that cannot hold a file carries its shards."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from bundle.builder.blobs import Blob, BlobStore

SHARD_BYTES = 1024 * 1024 * 1024
_CHUNK = 4 * 1024 * 1024


def file_entry(path: str, blob: Blob, store: BlobStore) -> dict[str, Any]:
    """Return a file's entry in the manifest; beyond one shard with the digest of each."""
    entry: dict[str, Any] = {"path": path, "size": blob.size, "sha256": blob.sha256}
    if blob.size > SHARD_BYTES:
        entry["shards"] = {"size": SHARD_BYTES, "sha256": _digests(blob, store)}
    return entry


def _digests(blob: Blob, store: BlobStore) -> list[str]:
    """Hash a content shard by shard, once: the cache keeps the result by digest."""
    kept = store.cache / "results" / "shards" / f"{blob.sha256}-{SHARD_BYTES}.json"
    try:
        found: list[str] = json.loads(kept.read_bytes())
        return found
    except FileNotFoundError:
        pass
    found = []
    with store.path(blob.sha256).open("rb", buffering=0) as stream:
        left = blob.size
        while left:
            digest, shard = hashlib.sha256(), min(left, SHARD_BYTES)
            left -= shard
            while shard:
                chunk = stream.read(min(shard, _CHUNK))
                if not chunk:
                    raise OSError(f"{blob.sha256} is shorter than {blob.size} bytes")
                digest.update(chunk)
                shard -= len(chunk)
            found.append(digest.hexdigest())
    kept.parent.mkdir(parents=True, exist_ok=True)
    fresh = kept.with_suffix(".new")
    fresh.write_text(json.dumps(found), encoding="ascii")
    fresh.replace(kept)
    return found
