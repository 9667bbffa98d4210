"""Releases of the real server out of a wheel."""

from __future__ import annotations

import lzma
import os
from pathlib import Path

import pytest

from tresor_vector.errors import VectorError
from tresor_vector.host import unpack


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    folder = tmp_path / "wheel"
    folder.mkdir()
    for name in ("milvus", "libknowhere.so"):
        (folder / f"{name}.lzma").write_bytes(lzma.compress(name.encode()))
    return folder


def test_unpacks_whole(wheel: Path, tmp_path: Path) -> None:
    release = tmp_path / "server" / "2.3.5-abcdef01"
    assert unpack.unpack(wheel, release) == 2
    assert (release / "bin" / "libknowhere.so").read_text() == "libknowhere.so"
    assert os.access(release / "bin" / "milvus", os.X_OK)


def test_one_superseded_release_stays_and_it_is_the_running_one(
    wheel: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "server"
    for name in ("1", "2", "3"):
        unpack.unpack(wheel, folder / name, keep=9)
    (folder / "current").symlink_to("2")
    unpack.unpack(wheel, folder / "4")
    assert sorted(path.name for path in folder.iterdir()) == ["2", "4", "current"]


def test_newest_stays_where_none_runs(wheel: Path, tmp_path: Path) -> None:
    folder = tmp_path / "server"
    for age, name in ((30, "1"), (10, "2"), (20, "3")):
        unpack.unpack(wheel, folder / name, keep=9)
        os.utime(folder / name, (1_000_000 - age, 1_000_000 - age))
    unpack.unpack(wheel, folder / "4")
    assert sorted(path.name for path in folder.iterdir()) == ["2", "4"]


def test_wheel_without_a_server_is_refused(tmp_path: Path) -> None:
    (tmp_path / "wheel").mkdir()
    with pytest.raises(VectorError, match=r"holds no milvus\.lzma"):
        unpack.unpack(tmp_path / "wheel", tmp_path / "server" / "1")
