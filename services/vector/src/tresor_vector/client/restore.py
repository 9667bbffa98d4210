"""Make a collection again from a backup, a batch at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tresor_vector.client import layout, rows, schema
from tresor_vector.errors import BackupError


def restore(
    client: Any,  # noqa: ANN401
    folder: Path,
    name: str | None,
    batch: int,
    *,
    replace: bool,
) -> dict[str, Any]:
    """Restore the backup in ``folder``; return {"collection", "rows"}.

    Everything is checked before the server is touched. When it breaks off, the half collection is
    removed, so that nobody takes it for whole.

    Raises:
        BackupError: the backup is damaged or too new, or the collection exists.
    """
    manifest = layout.read_manifest(folder)
    target = name or str(manifest["collection"])
    if client.has_collection(target):
        if not replace:
            raise BackupError(
                f"collection {target!r} exists. Restore under another name, or say that it is to "
                "be replaced."
            )
        client.drop_collection(target)
    kept = manifest["schema"]
    schema.create(client, target, kept)
    try:
        for partition in manifest["partitions"]:
            if partition and not client.has_partition(target, partition):
                client.create_partition(target, partition)
        written = sum(
            _insert(client, target, folder, entry, kept, batch=batch) for entry in manifest["files"]
        )
        if written != manifest["rows"]:
            raise BackupError(f"{folder}: {written} rows, the manifest says {manifest['rows']}")
        client.flush(target)
        schema.create_indexes(client, target, kept)
    except BaseException:
        client.drop_collection(target)
        raise
    return {"collection": target, "rows": written}


def _insert(
    client: Any,  # noqa: ANN401
    target: str,
    folder: Path,
    entry: dict[str, Any],
    kept: dict[str, Any],
    *,
    batch: int,
) -> int:
    types = {field["name"]: field["type"] for field in kept["fields"]}
    where = {"partition_name": entry["partition"]} if entry["partition"] else {}
    count, pending = 0, []
    for row in layout.rows(folder / entry["name"]):
        pending.append(rows.decode(row, types))
        if len(pending) >= batch:
            count += int(client.insert(target, pending, **where)["insert_count"])
            pending = []
    if pending:
        count += int(client.insert(target, pending, **where)["insert_count"])
    return count
