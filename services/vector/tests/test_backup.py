"""Backup and restore against a server that lives in memory."""

from __future__ import annotations

import hashlib
import json
import lzma
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tresor_vector.client import backup, layout, restore, rows, schema
from tresor_vector.errors import BackupError, VectorError
from tresor_vector.host import unpack

VECTOR = [0.1, -2.5, 3.0e-20]


class FakeClient:
    """The few calls that backup and restore make."""

    def __init__(self, content: dict[str, list[dict[str, Any]]], fail_at: int = -1) -> None:
        self.content, self.fail_at, self.inserts = content, fail_at, 0

    def has_collection(self, name: str) -> bool:
        return name in self.content

    def list_collections(self) -> list[str]:
        return list(self.content)

    def describe_collection(self, _: str) -> dict[str, Any]:
        def kind(name: str) -> Any:
            return SimpleNamespace(name=name)

        return {
            "fields": [
                {"name": "id", "type": kind("INT64"), "params": {}, "is_primary": True},
                {"name": "v", "type": kind("FLOAT_VECTOR"), "params": {"dim": 3}},
            ],
            "enable_dynamic_field": True,
            "consistency_level": 0,
        }

    def list_indexes(self, _: str) -> list[str]:
        return []

    def load_collection(self, _: str) -> None: ...

    def flush(self, _: str) -> None: ...

    def prepare_index_params(self) -> None: ...

    def get_server_version(self) -> str:
        return "fake"

    def list_partitions(self, _: str) -> list[str]:
        return ["_default"]

    def has_partition(self, _: str, __: str) -> bool:
        return True

    def drop_collection(self, name: str) -> None:
        del self.content[name]

    def query_iterator(self, name: str, batch_size: int, **_: Any) -> Any:
        stored = self.content[name]
        batches: Iterator[list[dict[str, Any]]] = (
            stored[i : i + batch_size] for i in range(0, len(stored), batch_size)
        )
        return SimpleNamespace(next=lambda: next(batches, []), close=lambda: None)

    def insert(self, name: str, data: list[dict[str, Any]], **_: Any) -> dict[str, int]:
        self.inserts += 1
        if self.inserts == self.fail_at:
            raise OSError("connection lost")
        self.content[name] += data
        return {"insert_count": len(data)}


@pytest.fixture(autouse=True)
def create(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make collections without the client library."""
    monkeypatch.setattr(
        schema, "create", lambda client, name, _: client.content.setdefault(name, [])
    )


def stored(count: int) -> list[dict[str, Any]]:
    """Return rows as a server gives them."""
    exact = rows.decode(
        json.loads(rows.encode({"v": VECTOR}, {"v": "FLOAT_VECTOR"})), {"v": "FLOAT_VECTOR"}
    )
    return [{"id": i, "v": exact["v"], "tag": f"ä{i}"} for i in range(count)]


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    """Return a finished backup of 25 rows."""
    backup.backup(FakeClient({"c": stored(25)}), "c", tmp_path / "b", 10)
    return tmp_path / "b"


def test_rows_come_back_bit_for_bit(whole: Path) -> None:
    client = FakeClient({})
    assert restore.restore(client, whole, None, 7, replace=False) == {"collection": "c", "rows": 25}
    assert client.content["c"] == stored(25)


def test_row_files_are_split_and_hashed(tmp_path: Path) -> None:
    files = backup.RowFiles(tmp_path, limit=110)
    for i in range(10):
        files.write(json.dumps({"id": i, "pad": "x" * 30}), "a" if i < 9 else "b")
    files.close()
    assert [entry["rows"] for entry in files.entries] == [2, 2, 2, 2, 1, 1]
    for entry in files.entries:
        content = (tmp_path / entry["name"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == entry["sha256"]
        assert len(content) == entry["bytes"]


def rewrite(folder: Path, **changes: Any) -> None:
    """Change the manifest and its digest, as somebody would who can write there."""
    path = folder / layout.MANIFEST
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    (folder / "manifest.json.sha256").write_text(f"{layout.digest(path)}  manifest.json\n")


def truncate(folder: Path) -> None:
    path = folder / "rows-00000.jsonl"
    path.write_bytes(path.read_bytes()[:-1])


def flip(folder: Path) -> None:
    path = folder / "rows-00000.jsonl"
    content = bytearray(path.read_bytes())
    content[20] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (truncate, "bytes, expected"),
        (flip, "SHA-256"),
        (lambda folder: (folder / "rows-00000.jsonl").unlink(), "is missing"),
        (lambda folder: (folder / "manifest.json").unlink(), "not a finished backup"),
        (lambda folder: (folder / "manifest.json").write_text("{}"), "damaged"),
        (lambda folder: rewrite(folder, format=2), "or a newer one"),
        (lambda folder: rewrite(folder, files=[{"name": "../x"}]), "no row file"),
    ],
)
def test_spoilt_backup_never_reaches_the_server(whole: Path, spoil: Any, reason: str) -> None:
    spoil(whole)
    client = FakeClient({"c": stored(3)})
    with pytest.raises(BackupError, match=reason):
        restore.restore(client, whole, None, 10, replace=True)
    assert client.content == {"c": stored(3)}


def test_existing_collection_stays_unless_told(whole: Path) -> None:
    client = FakeClient({"c": stored(3)})
    with pytest.raises(BackupError, match="exists"):
        restore.restore(client, whole, None, 10, replace=False)
    assert client.content["c"] == stored(3)
    restore.restore(client, whole, None, 10, replace=True)
    assert client.content["c"] == stored(25)


def test_half_restored_collection_is_removed(whole: Path) -> None:
    client = FakeClient({}, fail_at=2)
    with pytest.raises(OSError, match="connection lost"):
        restore.restore(client, whole, "d", 10, replace=False)
    assert client.content == {}


def test_unknown_collection_and_used_directory_are_refused(whole: Path) -> None:
    client = FakeClient({"c": []})
    with pytest.raises(BackupError, match="does not exist; there are c"):
        backup.backup(client, "x", whole.parent / "new", 10)
    with pytest.raises(BackupError, match="exists already"):
        backup.backup(client, "c", whole, 10)


def test_kinds_of_values_round_trip() -> None:
    types = {"s": "SPARSE_FLOAT_VECTOR", "b": "BINARY_VECTOR", "n": "INT32"}
    row = {"s": {3: 0.5, 9: 1.25}, "b": b"\x01\xff", "n": None, "dyn": {"a": [1, "x"]}}
    given = {**row, "b": [b"\x01\xff"]}
    assert rows.decode(json.loads(rows.encode(given, types)), types) == row
    with pytest.raises(BackupError, match="expected bytes"):
        rows.encode({"b": [1, 2]}, types)


def test_server_is_unpacked_whole_or_not_at_all(tmp_path: Path) -> None:
    source = tmp_path / "packed"
    source.mkdir()
    with pytest.raises(VectorError, match="has no server"):
        unpack.unpack(source, tmp_path / "r")
    (source / "milvus.lzma").write_bytes(lzma.compress(b"program"))
    (source / "lib.so.lzma").write_bytes(b"no archive")
    with pytest.raises(lzma.LZMAError):
        unpack.unpack(source, tmp_path / "r")
    assert not (tmp_path / "r").exists()
    (source / "lib.so.lzma").write_bytes(lzma.compress(b"library"))
    assert unpack.unpack(source, tmp_path / "r") == 2
    assert (tmp_path / "r/bin/milvus").read_bytes() == b"program"
    assert (tmp_path / "r/bin/milvus").stat().st_mode & 0o777 == 0o755
