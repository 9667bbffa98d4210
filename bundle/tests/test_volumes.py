"""A bundle spread over small media is the same bundle for an importer."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

import pytest

from bundle.builder import shards, volumes
from bundle.builder.blobs import BlobStore
from python_plugins.tests.bundle.helpers import NOW, Maker
from tresor.bundle import gates
from tresor.bundle.errors import EnvironmentNotReadyError
from tresor.bundle.layout import Store
from tresor.bundle.machine import Importer, Machine, Request, locked
from tresor.bundle.medium import Medium
from tresor.bundle.signing import create_lab_keys

MIB = 1024 * 1024
BIG = random.Random(3).randbytes(3 * MIB + 99)  # noqa: S311 - bytes for a test


@pytest.fixture
def maker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Maker:
    monkeypatch.setattr(shards, "SHARD_BYTES", MIB)
    monkeypatch.setattr(gates, "GATES", {"contents": gates.GATES["contents"]})
    keys = tmp_path / "keys"
    found = Maker(tmp_path / "medium", keys, create_lab_keys(keys))
    found.parts["distribution"][2]["big"] = BIG
    store = BlobStore(tmp_path / "cache")
    document = found.manifest()
    for part in document["parts"]:  # type: ignore[attr-defined]
        for entry in part["files"]:
            if entry["path"] == "big":
                entry.update(shards.file_entry("big", store.add_bytes(BIG), store))
    found.make(parts=document["parts"])
    return found


def test_shards_of_a_large_content_are_listed(maker: Maker, tmp_path: Path) -> None:
    store = BlobStore(tmp_path / "cache")
    blob = store.add_bytes(BIG)
    for _ in range(2):  # the second time from the cache
        entry = shards.file_entry("big", blob, store)
        assert entry["shards"]["sha256"] == [
            hashlib.sha256(BIG[start : start + MIB]).hexdigest()
            for start in range(0, len(BIG), MIB)
        ]
    small = shards.file_entry("small", store.add_bytes(b"x" * MIB), store)
    assert "shards" not in small


@pytest.mark.parametrize("backwards", [False, True])
def test_importer_takes_the_volumes_in_any_order(
    maker: Maker, tmp_path: Path, backwards: bool
) -> None:
    folders = volumes.write(maker.bundle, tmp_path / "out", int(2.7 * MIB))
    assert len(folders) > 2
    store = Store(tmp_path / "store")
    request = Request("lab", maker.fingerprint, True)
    states = []
    for folder in reversed(folders) if backwards else folders:
        with locked(store):
            importer = Importer(store, now=NOW, machine=Machine("amd64", "debian-13"), quiet=True)
            try:
                states.append(importer.import_bundle(Medium(folder), request).state)
            except EnvironmentNotReadyError as error:
                states.append(error.rule)
    assert states == ["medium.volume"] * (len(folders) - 1) + ["AWAIT_APPROVAL"]
    assert store.blob(hashlib.sha256(BIG).hexdigest()).read_bytes() == BIG


def test_one_large_medium_takes_the_bundle_whole(maker: Maker, tmp_path: Path) -> None:
    (folder,) = volumes.write(maker.bundle, tmp_path / "out", 100 * MIB)
    assert not list(folder.rglob("*.s0000"))
    digest = hashlib.sha256(BIG).hexdigest()
    assert (folder / "blobs" / digest[:2] / digest).read_bytes() == BIG


def test_media_that_are_too_small_are_refused(
    maker: Maker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for size in ("0.000001", "0.0015"):
        assert volumes.main([str(maker.bundle), "--out", str(tmp_path / "out"), "--gb", size]) == 2
        assert "volumes.size" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_existing_volumes_are_not_overwritten(maker: Maker, tmp_path: Path) -> None:
    words = [str(maker.bundle), "--out", str(tmp_path / "out"), "--gb", "1"]
    assert volumes.main(words) == 0
    assert volumes.main(words) == 2
