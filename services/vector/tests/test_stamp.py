"""Which program may open which data."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tresor_vector.errors import DataRefusedError
from tresor_vector.host import stamp


def test_fresh_directory_is_claimed(tmp_path: Path) -> None:
    assert stamp.claim(tmp_path, "lite", "3.2.2") is None
    assert stamp.claim(tmp_path, "lite", "3.2.2") == "3.2.2"


def test_upgrade_moves_the_stamp_and_keeps_history(tmp_path: Path) -> None:
    stamp.claim(tmp_path, "standalone", "2.6.9")
    assert stamp.claim(tmp_path, "standalone", "2.6.10") == "2.6.9"
    kept = json.loads((tmp_path / stamp.NAME).read_text())
    assert kept == {"form": "standalone", "version": "2.6.10", "before": ["2.6.9"]}


@pytest.mark.parametrize(("data", "program"), [("2.6.10", "2.6.9"), ("3.0", "2.6.9")])
def test_newer_data_is_refused_and_left_alone(tmp_path: Path, data: str, program: str) -> None:
    stamp.claim(tmp_path, "standalone", data)
    with pytest.raises(DataRefusedError, match=f"written by Milvus {data}, which is newer"):
        stamp.claim(tmp_path, "standalone", program)
    assert json.loads((tmp_path / stamp.NAME).read_text())["version"] == data


def test_other_form_is_refused(tmp_path: Path) -> None:
    stamp.claim(tmp_path, "lite", "3.2.2")
    with pytest.raises(DataRefusedError, match="holds data of Milvus lite"):
        stamp.claim(tmp_path, "standalone", "3.2.2")


def test_data_of_unknown_origin_is_refused(tmp_path: Path) -> None:
    (tmp_path / "db").mkdir()
    with pytest.raises(DataRefusedError, match="nobody knows which version"):
        stamp.claim(tmp_path, "lite", "3.2.2")
    assert not (tmp_path / stamp.NAME).exists()


@pytest.mark.parametrize("content", ["", "{}", '{"form": "lite", "version": 1, "before": 3}'])
def test_damaged_stamp_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / stamp.NAME).write_text(content)
    with pytest.raises(DataRefusedError, match="is damaged"):
        stamp.claim(tmp_path, "lite", "3.2.2")


def test_version_must_be_numbers() -> None:
    with pytest.raises(DataRefusedError, match="numbers with dots"):
        stamp.parse("latest")
