"""Large contents: one pass, shards, volumes in any order, and how little is read again."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from python_plugins.tests.bundle.helpers import Maker, Site
from python_plugins.tests.bundle.killing import survives
from tresor.bundle import partial, stream
from tresor.bundle.errors import EnvironmentNotReadyError, RejectedError
from tresor.bundle.medium import Medium

MIB = 1024 * 1024
BIG = random.Random(7).randbytes(5 * MIB + 4321)  # noqa: S311 - bytes for a test


@pytest.fixture
def big(maker: Maker, monkeypatch: pytest.MonkeyPatch) -> Iterator[Maker]:
    """Give a bundle with one large content; checkpoints are near, chunks small."""
    monkeypatch.setattr(partial, "CHECKPOINT_BYTES", MIB)
    monkeypatch.setattr(stream, "CHUNK_BYTES", 256 * 1024)
    monkeypatch.setattr(stream.Buffers.__init__, "__defaults__", (3, 256 * 1024))
    maker.parts["distribution"][2]["big"] = BIG
    yield maker


def with_shards(maker: Maker, size: int = MIB) -> list[Path]:
    """Sign a manifest with shards of the large content; return the shards' files."""
    document = maker.manifest()
    pieces = [BIG[start : start + size] for start in range(0, len(BIG), size)]
    for part in document["parts"]:  # type: ignore[attr-defined]
        for entry in part["files"]:
            if entry["path"] == "big":
                digests = [hashlib.sha256(piece).hexdigest() for piece in pieces]
                entry["shards"] = {"size": size, "sha256": digests}
    maker.make(parts=document["parts"])
    whole = maker.blob(BIG)
    paths = [whole.with_name(f"{whole.name}.s{number:04d}") for number in range(len(pieces))]
    for path, piece in zip(paths, pieces, strict=True):
        path.write_bytes(piece)
    whole.unlink()
    return paths


def is_here(site: Site) -> bool:
    blob = site.store.blob(hashlib.sha256(BIG).hexdigest())
    return blob.read_bytes() == BIG and blob.stat().st_mode & 0o777 == 0o444


def copied(site: Site) -> dict[str, int]:
    """Return what the last run read from the medium."""
    lines = [json.loads(line) for line in site.store.events.read_text().splitlines()]
    return next(line for line in reversed(lines) if line["event"] == "import.copied")


def test_large_content_is_copied_in_one_pass(site: Site, big: Maker) -> None:
    big.make()
    site.take(big)
    assert is_here(site)
    assert copied(site)["read"] == copied(site)["bytes"]


@pytest.mark.parametrize("size", [15370, 4096 * 16, MIB])
def test_whole_content_with_listed_shards_is_taken_too(site: Site, big: Maker, size: int) -> None:
    shards = with_shards(big, size)
    big.blob(BIG).write_bytes(BIG)
    for path in shards:
        path.unlink()
    site.take(big)
    assert is_here(site)


def die_at(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """Let the process be killed when it has written ``count`` bytes of the large content."""
    real = partial.Partial.write

    def write(self: partial.Partial, view: memoryview, size: int, offset: int) -> None:
        real(self, view, size, offset)
        if offset >= count:
            os.kill(os.getpid(), 9)

    monkeypatch.setattr(partial.Partial, "write", write)


@pytest.mark.parametrize("shards", [False, True])
def test_after_a_kill_at_most_one_checkpoint_is_read_again(
    site: Site, big: Maker, monkeypatch: pytest.MonkeyPatch, shards: bool
) -> None:
    with_shards(big) if shards else big.make()
    with monkeypatch.context() as patch:
        die_at(patch, 3 * MIB)
        assert not survives(10_000, lambda: site.take(big))
    site.take(big)
    assert is_here(site)
    assert copied(site)["read"] <= len(BIG) - 2 * MIB + 10_000, "more than one shard came again"


def test_torn_prefix_on_our_disk_is_copied_anew(
    site: Site, big: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    big.make()
    with monkeypatch.context() as patch:
        die_at(patch, 3 * MIB)
        survives(10_000, lambda: site.take(big))
    (part,) = (site.store.root / "staging").glob("*/*.part")
    with part.open("r+b") as file:
        file.seek(12345)
        file.write(b"torn")
    site.take(big)
    assert is_here(site)
    assert copied(site)["read"] >= len(BIG)


def test_medium_that_lies_after_a_resume_is_refused(
    site: Site, big: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    big.make()
    with monkeypatch.context() as patch:
        die_at(patch, 3 * MIB)
        survives(10_000, lambda: site.take(big))
    changed = bytearray(BIG)
    changed[-1] ^= 1
    big.blob(BIG).write_bytes(bytes(changed))
    with pytest.raises(RejectedError, match=r"content\.digest"):
        site.take(big)
    assert not any((site.store.root / "staging").iterdir())


@pytest.mark.parametrize("damage", [-1, 1])
def test_shorter_and_longer_large_content_is_refused(
    site: Site, big: Maker, damage: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    big.make()
    # A medium that shows the right size and gives more or less (a broken or hostile file system).
    monkeypatch.setattr(Medium, "_walk", lambda self, expected: iter(
        [(path, size or 0) for path, size in expected.items() if (self.root / path).exists()]
    ))  # fmt: skip
    big.blob(BIG).write_bytes(BIG[:-1] if damage < 0 else BIG + b"x")
    with pytest.raises(RejectedError, match=r"content\.size"):
        site.take(big)


def split(maker: Maker, shards: list[Path]) -> tuple[Maker, Maker]:
    """Spread a bundle over two volumes: odd shards and half of the contents on the second."""
    other = Maker(maker.root.with_name("second"), maker.keys, maker.fingerprint, maker.parts)
    shutil.copytree(maker.bundle, other.bundle)
    small = sorted(
        path
        for path in (maker.bundle / "blobs").rglob("*")
        if path.is_file() and path not in shards
    )
    on_second = {*shards[1::2], *small[1::2]}
    for path in [*shards, *small]:
        gone_from = maker if path in on_second else other
        (gone_from.bundle / path.relative_to(maker.bundle)).unlink()
    for number, volume in enumerate((maker, other), 1):
        text = json.dumps({"volume": number, "volumes": 2})
        (volume.bundle / "volume.json").write_text(text)
    return maker, other


@pytest.mark.parametrize("backwards", [False, True])
def test_volumes_are_taken_in_any_order(site: Site, big: Maker, backwards: bool) -> None:
    volumes = split(big, with_shards(big))
    first, second = reversed(volumes) if backwards else volumes
    with pytest.raises(EnvironmentNotReadyError, match=r"medium\.volume.*other volumes"):
        site.take(first)
    with pytest.raises(EnvironmentNotReadyError, match=r"medium\.volume"):
        site.take(first)
    assert copied(site)["read"] == 0, "what is here is not asked of the medium again"
    assert site.take(second).state == "AWAIT_APPROVAL"
    assert is_here(site)


def test_shard_changed_on_the_second_volume_is_refused(site: Site, big: Maker) -> None:
    first, second = split(big, with_shards(big))
    with pytest.raises(EnvironmentNotReadyError):
        site.take(first)
    shard = next(second.bundle.rglob("*.s0001"))
    shard.write_bytes(bytes(MIB))
    with pytest.raises(RejectedError, match=r"content\.digest.*s0001"):
        site.take(second)
    assert not any((site.store.root / "staging").iterdir())


def test_volume_of_another_bundle_is_refused(site: Site, big: Maker, tmp_path: Path) -> None:
    first, _ = split(big, with_shards(big))
    with pytest.raises(EnvironmentNotReadyError):
        site.take(first)
    stranger = Maker(tmp_path / "stranger", big.keys, big.fingerprint)
    stranger.make(id="2026.11-7")
    with pytest.raises(RejectedError, match=r"signature\.version-reused"):
        site.take(stranger)


@pytest.mark.parametrize("text", ["[]", '{"volume":3,"volumes":2}', '{"volume":1}', "x" * 5000])
def test_malformed_volume_hint_is_refused(site: Site, maker: Maker, text: str) -> None:
    maker.make()
    (maker.bundle / "volume.json").write_text(text)
    with pytest.raises(RejectedError, match=r"medium\.(volume|size)"):
        site.take(maker)


def test_claim_of_more_volumes_does_not_excuse_what_never_comes(site: Site, maker: Maker) -> None:
    maker.make()
    maker.blob(b"deb").unlink()
    (maker.bundle / "volume.json").write_text('{"volume":1,"volumes":9}')
    for _ in range(2):
        with pytest.raises(EnvironmentNotReadyError, match=r"medium\.volume"):
            site.take(maker)
    assert not site.store.current.exists()
