"""The page's table of sandboxes names every unit, and tells when a host shows something else."""

from __future__ import annotations

from pathlib import Path

from docs.tools import unit_exposure
from docs.tools.unit_exposure import Row, differences, rows, stale

ROOT = Path(__file__).parents[3]


def test_page_has_a_row_for_every_unit_and_no_other() -> None:
    table = rows((ROOT / unit_exposure.PAGE).read_text(encoding="utf-8"))
    assert len(table) > 20
    assert stale(table, unit_exposure.units(ROOT)) == []
    assert table["tresor-vllm@"].most == 3.0
    others = [row.most for unit, row in table.items() if unit != "tresor-vllm@" and row.most]
    assert set(others) == {2.0}


def test_missing_surplus_and_silent_rows_are_told() -> None:
    table = rows(
        "| `tresor-a` | 1.2 | 2.0 | |\n| `tresor-b` | 9.0 | - | |\n| `tresor-c` | 2.4 | 2.0 | x |\n"
    )
    assert stale(table, {"tresor-a", "tresor-b", "tresor-d"}) == [
        "tresor-d has no row: measure it in the lab",
        "tresor-c is no unit of a role: remove its row",
        "tresor-b is held to nothing, or was not measured, and its row does not say why",
        "tresor-c has 2.4, more than 2.0",
    ]


def test_host_that_differs_is_told() -> None:
    table = {
        "tresor-a": Row(1.2, 2.0, ""),
        "tresor-b": Row(1.9, 2.0, ""),
        "tresor-c": Row(9.5, None, "x"),
    }
    same = {"tresor-a": 1.0, "tresor-b": 1.9, "tresor-c": 9.4}
    assert differences(table, same) == []
    assert differences(table, {"tresor-a": 1.6, "tresor-b": 2.1, "tresor-x": 1.0}) == [
        "tresor-a has 1.6, the page says 1.2",
        "tresor-b has 2.1, more than 2.0",
        "tresor-x has 1.0 and no row",
    ]
