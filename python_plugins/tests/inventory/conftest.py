"""A copy of the lab's inventory that a test may spoil."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tresor.inventory.loader import load_inventory
from tresor.inventory.problems import InventoryError, Problem

ROOT = Path(__file__).parents[3]
SCHEMAS = ROOT / "python_plugins/module_utils/tresor/schema"
Spoil = Callable[[str, str, str], None]


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    return Path(shutil.copytree(ROOT / "inventories/lab", tmp_path / "lab"))


@pytest.fixture
def production(tmp_path: Path) -> Path:
    return Path(shutil.copytree(ROOT / "inventories/production", tmp_path / "production"))


@pytest.fixture
def spoil(lab: Path) -> Spoil:
    """Replace a text, which must be there, in a file of the copy."""

    def replace(file: str, old: str, new: str) -> None:
        path = lab / file
        text = path.read_text(encoding="utf-8")
        assert old in text, f"{file} does not hold {old!r}"
        path.write_text(text.replace(old, new, 1), encoding="utf-8")

    return replace


@pytest.fixture
def problems(lab: Path) -> Callable[[], tuple[Problem, ...]]:
    def find() -> tuple[Problem, ...]:
        with pytest.raises(InventoryError) as caught:
            load_inventory(lab, SCHEMAS)
        return caught.value.problems

    return find
