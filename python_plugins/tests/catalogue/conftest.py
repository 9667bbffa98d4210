"""The shipped catalogue, and a copy of it that a test may spoil."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from tresor.catalogue.entry import read_entry
from tresor.inventory.problems import Problem
from tresor.inventory.schema_check import load_schema

TRESOR = Path(__file__).parents[2] / "module_utils/tresor"
SHIPPED = TRESOR / "catalogue/models"
SCHEMA = load_schema(TRESOR / "schema", "catalogue")


def read(name: str) -> dict[str, Any]:
    entry, problems = read_entry(SHIPPED, name, SCHEMA)
    assert entry is not None, problems
    return dict(entry)


class Copy:
    """A copy of the catalogue's folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def spoil(self, name: str, old: str, new: str) -> list[Problem]:
        """Replace a text, which must be there, and return what is told about the entry then."""
        path = self.folder / f"{name}.yml"
        text = path.read_text(encoding="utf-8")
        assert old in text, f"{name} does not hold {old!r}"
        path.write_text(text.replace(old, new, 1), encoding="utf-8")
        entry, problems = read_entry(self.folder, name, SCHEMA)
        assert (entry is None) == bool(problems)
        return problems


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    return Copy(Path(shutil.copytree(SHIPPED, tmp_path / "models")))
