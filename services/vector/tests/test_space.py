"""The guard's decisions, and what the watch makes of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tresor_vector.errors import VectorError
from tresor_vector.host import configuration, health, space, watch

BASE = "# made\nquotaAndLimits:\n  limitWriting: {forceDeny: true}\n"


class Disk:
    """A file system whose free space the test sets."""

    def __init__(self, free: int) -> None:
        self.free = free

    def __call__(self, _: Path) -> int:
        return self.free


def test_blocks_below_the_bound_and_returns_a_tenth_above(tmp_path: Path) -> None:
    disk = Disk(1000)
    guard = space.SpaceGuard(tmp_path, 1000, disk)
    seen = []
    for free in (1000, 999, 1000, 1099, 1100, 1000, 999):
        disk.free = free
        seen.append(guard.look().blocked)
    assert seen == [False, True, True, True, False, False, True]


def test_measures_the_real_file_system(tmp_path: Path) -> None:
    assert space.free_bytes(tmp_path) > 0


@pytest.fixture
def settings(tmp_path: Path) -> watch.Settings:
    """Return settings with all directories."""
    for name in ("data", "guard", "base"):
        (tmp_path / name).mkdir()
    (tmp_path / "base" / "milvus.yaml").write_text(BASE)
    (tmp_path / "base" / "glog.conf").write_text("--x\n")
    return watch.Settings(
        data=tmp_path / "data",
        guard_folder=tmp_path / "guard",
        minimum_free=1000,
        every=1.0,
        management="http://127.0.0.1:9",
        base=tmp_path / "base",
        effective=tmp_path / "guard",
    )


def test_watch_blocks_says_so_once_and_lets_back(
    settings: watch.Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    disk = Disk(5000)
    watching = watch.Watch(settings, space.SpaceGuard(settings.data, 1000, disk))
    flag, copy = settings.guard_folder / space.OPEN, settings.guard_folder / "milvus.yaml"
    watching.round(0.0)
    assert flag.exists()
    assert "forceDeny: false" in copy.read_text()
    assert (settings.guard_folder / "glog.conf").exists()
    disk.free = 10
    watching.round(1.0)
    watching.round(2.0)
    assert not flag.exists()
    assert "forceDeny: true" in copy.read_text()
    assert capsys.readouterr().err.count("read-only: 10 bytes are free") == 1
    assert "tresor_milvus_writes_blocked 1\n" in watch.metrics(watching.state)
    disk.free = 5000
    watching.round(3.0)
    assert flag.exists()
    assert "takes writes again" in capsys.readouterr().err
    assert "tresor_milvus_writes_blocked 0\n" in watch.metrics(watching.state)


def test_stopped_watch_leaves_no_way_to_write(settings: watch.Settings) -> None:
    watching = watch.Watch(settings, space.SpaceGuard(settings.data, 1000, Disk(5000)))
    watching.round(0.0)
    watching.shut()
    assert not (settings.guard_folder / space.OPEN).exists()
    assert "forceDeny: true" in (settings.guard_folder / "milvus.yaml").read_text()


def test_before_the_first_round_metrics_say_blocked_and_down() -> None:
    page = watch.metrics(watch.State())
    assert "tresor_milvus_up 0\n" in page
    assert "tresor_milvus_writes_blocked 1\n" in page


def test_configuration_without_the_switch_is_refused(tmp_path: Path) -> None:
    (tmp_path / "milvus.yaml").write_text("quotaAndLimits: {}\n")
    with pytest.raises(VectorError, match="0 times, expected once"):
        configuration.write(tmp_path, tmp_path / "x", is_open=True)


def test_data_bytes_counts_files(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "f").write_bytes(b"x" * 10000)
    assert watch.data_bytes(tmp_path) >= 10000


def test_server_that_does_not_answer_is_down() -> None:
    assert not health.of_server("http://127.0.0.1:9", 0.5).up


def test_protobuf_names_are_counted() -> None:
    message = b"\x0a\x00\x12\x01a\x12\x02bc\x18\x05\x21" + b"\0" * 8 + b"\x2d" + b"\0" * 4
    assert [name for number, name in health.fields(message) if number == 2] == [b"a", b"bc"]


@pytest.mark.parametrize("message", [b"\x12\x05ab", b"\x12", b"\x13", b"\xff" * 11])
def test_broken_protobuf_is_refused(message: bytes) -> None:
    with pytest.raises(VectorError):
        list(health.fields(message))
