"""The tables of docs/models.md are the ones that docs/tools/model_tables.py makes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from docs.tools import model_tables as tool


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A small tree with two entries and a stale page."""
    models = tmp_path / tool.TRESOR / "catalogue/models"
    models.mkdir(parents=True)
    for name in ("gpt-oss-120b", "gpt-oss-20b"):
        shutil.copy(tool.ROOT / tool.TRESOR / f"catalogue/models/{name}.yml", models)
    shutil.copytree(tool.ROOT / tool.TRESOR / "schema", tmp_path / tool.TRESOR / "schema")
    page = tmp_path / tool.PAGE
    page.parent.mkdir()
    page.write_text(f"# Models\n\n{tool.BEGIN}\nold\n{tool.END}\n\nafter\n", encoding="utf-8")
    # The entry's fallback needs its own.
    text = (models / "gpt-oss-20b.yml").read_text(encoding="utf-8")
    assert "fallback: gpt-oss-120b" in text
    return tmp_path


def test_page_is_current() -> None:
    assert tool.main(["--check"]) == 0, "run: .venv/bin/python docs/tools/model_tables.py"


def test_stale_page_is_told_and_then_written(
    tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tool.main(["--check"], tree) == 1
    assert "is out of date" in capsys.readouterr().err
    assert tool.main([], tree) == 0
    assert tool.main(["--check"], tree) == 0
    page = (tree / tool.PAGE).read_text(encoding="utf-8")
    assert page.startswith("# Models\n") and page.endswith("\n\nafter\n")
    assert "2 entries." in page
    assert "2 x H100 SXM 80GB, mxfp4, 12" in page


def test_wrong_entry_writes_nothing(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tree / tool.TRESOR / "catalogue/models/gpt-oss-20b.yml").unlink()
    before = (tree / tool.PAGE).read_text(encoding="utf-8")

    assert tool.main([], tree) == 2
    assert "gateway.fallback: is no entry of the catalogue" in capsys.readouterr().err
    assert (tree / tool.PAGE).read_text(encoding="utf-8") == before
