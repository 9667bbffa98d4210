"""Write one collection into a directory, a batch at a time."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final

from tresor_vector import __version__
from tresor_vector.client import layout, rows, schema
from tresor_vector.errors import BackupError

_FILE_BYTES: Final = 128 * 1024 * 1024


class RowFiles:
    """Row files of bounded size, hashed while they are written."""

    def __init__(self, folder: Path, limit: int = _FILE_BYTES) -> None:
        self._folder, self._limit = folder, limit
        self._file: BinaryIO | None = None
        self._hash = hashlib.sha256()
        self._partition = ""
        self.entries: list[dict[str, Any]] = []

    def write(self, line: str, partition: str) -> None:
        """Append one row."""
        content = line.encode() + b"\n"
        if self._file is None or partition != self._partition or self._full(len(content)):
            self._open(partition)
        if self._file is None:
            raise BackupError(f"{self._folder}: no row file is open")
        self._file.write(content)
        self._hash.update(content)
        self.entries[-1]["bytes"] += len(content)
        self.entries[-1]["rows"] += 1

    def _full(self, more: int) -> bool:
        return bool(self.entries[-1]["bytes"] + more > self._limit)

    def _open(self, partition: str) -> None:
        self.close()
        name = f"rows-{len(self.entries):05d}.jsonl"
        self._file, self._hash = (self._folder / name).open("xb"), hashlib.sha256()
        self._partition = partition
        self.entries.append({"name": name, "partition": partition, "rows": 0, "bytes": 0})

    def close(self) -> None:
        """Finish the file that is open, on the disk."""
        if self._file is not None:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self.entries[-1]["sha256"] = self._hash.hexdigest()
            self._file = None


def backup(client: Any, name: str, folder: Path, batch: int) -> dict[str, Any]:  # noqa: ANN401
    """Write collection ``name`` into the new directory ``folder``; return the manifest.

    Rows written meanwhile may or may not be in it.

    Raises:
        BackupError: no such collection, or ``folder`` exists.
    """
    if not client.has_collection(name):
        raise BackupError(f"collection {name!r} does not exist; there are {_known(client)}")
    kept = schema.describe(client, name)
    try:
        folder.mkdir(mode=0o700, parents=True)
    except FileExistsError as error:
        raise BackupError(f"{folder} exists already; name a new directory") from error
    client.load_collection(name)
    files = RowFiles(folder)
    types = {field["name"]: field["type"] for field in kept["fields"]}
    made = {field["name"] for field in kept["fields"] if field.get("is_function_output")}
    partitions = _partitions(client, name, kept)
    for partition in partitions:
        for row in _read(client, name, partition, batch):
            stays = {key: value for key, value in row.items() if key not in made}
            files.write(rows.encode(stays, types), partition)
    files.close()
    manifest = {
        "format": layout.FORMAT,
        "collection": name,
        "schema": kept,
        "partitions": partitions,
        "rows": sum(entry["rows"] for entry in files.entries),
        "files": files.entries,
        "server": client.get_server_version(),
        "program": f"tresor-vector {__version__}",
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    layout.write_manifest(folder, manifest)
    return manifest


def _known(client: Any) -> str:  # noqa: ANN401
    return ", ".join(sorted(client.list_collections())) or "none"


def _partitions(client: Any, name: str, kept: dict[str, Any]) -> list[str]:  # noqa: ANN401
    """Return the partitions to read one by one; with a partition key the server deals rows out."""
    if any(field.get("is_partition_key") for field in kept["fields"]):
        return [""]
    return sorted(client.list_partitions(name))


def _read(client: Any, name: str, partition: str, batch: int) -> Iterator[dict[str, Any]]:  # noqa: ANN401
    only = {"partition_names": [partition]} if partition else {}
    iterator = client.query_iterator(name, batch_size=batch, output_fields=["*"], **only)
    try:
        while found := iterator.next():
            yield from found
    finally:
        iterator.close()
