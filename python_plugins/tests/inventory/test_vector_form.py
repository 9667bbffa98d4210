"""Milvus Lite at level production must be stated as an evaluation."""

from __future__ import annotations

from pathlib import Path

import pytest

from tresor.inventory.loader import load_inventory
from tresor.inventory.problems import InventoryError, Problem

from .conftest import ROOT, SCHEMAS

SITE, HOSTS = "group_vars/all/site.yml", "hosts.yml"
STATED = "  vector:\n    form: standalone\n"


def change(site: Path, old: str, new: str) -> None:
    text = (site / SITE).read_text(encoding="utf-8")
    assert text.count(old) == 1
    (site / SITE).write_text(text.replace(old, new), encoding="utf-8")


def found(site: Path) -> tuple[Problem, ...]:
    with pytest.raises(InventoryError) as caught:
        load_inventory(site, SCHEMAS)
    return caught.value.problems


@pytest.mark.parametrize(
    ("new", "key"),
    [
        ("  vector:\n    form: lite\n", "tresor_site.vector.form"),
        ("  vector:\n    form: lite\n    evaluation: false\n", "tresor_site.vector.form"),
        # Without a word about it the form would be lite.
        ("", "tresor_site"),
    ],
)
def test_lite_in_production_is_refused(production: Path, new: str, key: str) -> None:
    change(production, STATED, new)

    (problem,) = found(production)

    assert (problem.file, problem.key) == (SITE, key)
    assert "Milvus Lite is for evaluation" in problem.wrong
    assert "form: standalone" in problem.fix
    assert "evaluation: true" in problem.fix


def test_lite_in_production_passes_when_stated(production: Path) -> None:
    change(production, STATED, "  vector:\n    form: lite\n    evaluation: true\n")

    load_inventory(production, SCHEMAS)


def test_evaluation_must_be_true_or_false(production: Path) -> None:
    change(production, STATED, '  vector:\n    form: lite\n    evaluation: "yes"\n')

    assert any(p.key == "tresor_site.vector.evaluation" for p in found(production))


def test_the_example_of_a_production_site_runs_the_real_server() -> None:
    assert STATED in (ROOT / "inventories" / "production" / SITE).read_text(encoding="utf-8")
