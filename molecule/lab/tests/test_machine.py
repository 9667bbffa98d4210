"""The machine's inotify limit is raised for the hosts and put back afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.machine import INSTANCES, raise_inotify_limit, restore_inotify_limit


@pytest.fixture
def limit(tmp_path: Path) -> Path:
    path = tmp_path / "limit"
    path.write_text("128\n")
    return path


def test_low_limit_is_raised_and_restored(limit: Path, tmp_path: Path) -> None:
    assert raise_inotify_limit(limit, tmp_path)
    assert int(limit.read_text()) == INSTANCES
    assert not raise_inotify_limit(limit, tmp_path)
    restore_inotify_limit(limit, tmp_path)
    assert limit.read_text() == "128\n"


def test_high_limit_is_left_alone(limit: Path, tmp_path: Path) -> None:
    limit.write_text("99999\n")
    assert not raise_inotify_limit(limit, tmp_path)
    restore_inotify_limit(limit, tmp_path)
    assert limit.read_text() == "99999\n"


def test_value_that_somebody_set_meanwhile_is_kept(limit: Path, tmp_path: Path) -> None:
    raise_inotify_limit(limit, tmp_path)
    limit.write_text("8192\n")
    restore_inotify_limit(limit, tmp_path)
    assert limit.read_text() == "8192\n"
