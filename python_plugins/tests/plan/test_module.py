"""The module tresor_plan: check, do, check, do; and nothing written for a bad inventory."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from python_plugins.tests.module_call import call

ROOT = Path(__file__).parents[3]


@pytest.fixture
def options(tmp_path: Path) -> dict[str, Any]:
    return {
        "inventory_dir": str(shutil.copytree(ROOT / "inventories/lab", tmp_path / "lab")),
        "schema_dir": str(ROOT / "python_plugins/module_utils/tresor/schema"),
        "dest": str(tmp_path / "plan" / "plan.json"),
    }


def test_changed_changed_unchanged_unchanged(options: dict[str, Any]) -> None:
    dest = Path(options["dest"])

    assert call("tresor_plan", check=True, **options)["changed"]
    assert not dest.exists()
    assert call("tresor_plan", **options)["changed"]
    written = dest.stat()
    assert not call("tresor_plan", check=True, **options)["changed"]
    assert not call("tresor_plan", **options)["changed"]
    assert dest.stat().st_mtime_ns == written.st_mtime_ns


def test_bad_inventory_leaves_the_last_plan(options: dict[str, Any]) -> None:
    call("tresor_plan", **options)
    before = Path(options["dest"]).read_bytes()
    access = Path(options["inventory_dir"]) / "group_vars/all/access.yml"
    access.write_text(access.read_text().replace("group: llm-users", "group: staff"))

    result = call("tresor_plan", **options)

    assert result["failed"]
    assert [problem["seen"] for problem in result["problems"]] == ['"staff"']
    assert "nothing was written" in result["msg"]
    assert Path(options["dest"]).read_bytes() == before
