"""The stage's inventory is one engine over two hosts; its judges refuse what cannot be right."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from stages.multi_node import inventory, judge_connections, judge_evidence
from stages.shell import REPOSITORY, StageError
from tresor.inventory.loader import load_inventory
from tresor.plan.resolve import resolve

SCHEMAS = REPOSITORY / "python_plugins/module_utils/tresor/schema"
WIRE = (
    '0 0 192.0.2.31:41075 192.0.2.32:59044 users:(("VLLM::Worker_PP",pid=1,fd=2))\n'
    '0 0 [::ffff:192.0.2.31]:29501 [::ffff:192.0.2.32]:54126 users:(("VLLM::Worker",pid=1))\n'
    '0 0 198.51.100.31:8110 198.51.100.20:40000 users:(("vllm",pid=3,fd=1))\n'
    '0 0 198.51.100.31:22 198.51.100.10:40000 users:(("sshd",pid=4,fd=1))\n'
)


def test_inventory_is_valid_and_one_engine_over_both_hosts(tmp_path: Path) -> None:
    root = Path(shutil.copytree(REPOSITORY / "inventories/lab", tmp_path / "lab"))
    for name, content in inventory().items():
        (root / name).write_bytes(content)

    plan = resolve(load_inventory(root, SCHEMAS))["tresor_plan"]

    (found,) = (one for one in plan["instances"] if "nodes" in one)
    assert (found["id"], found["nodes"]["hosts"]) == ("span-gpu1", ["gpu1", "gpu2"])
    assert plan["hosts"]["gpu2"]["followers"] == ["span-gpu1"]


def test_connections_of_engines_must_take_the_wire() -> None:
    assert judge_connections(WIRE, "192.0.2.31", "192.0.2.32") == 2
    astray = WIRE + '0 0 10.0.0.1:4 10.0.0.2:5 users:(("VLLM::Worker_PP",pid=1))\n'
    site = WIRE + '0 0 198.51.100.31:4 198.51.100.32:5 users:(("VLLM::Worker_PP",pid=1))\n'
    for text in (astray, site):
        with pytest.raises(StageError, match="another way"):
            judge_connections(text, "192.0.2.31", "192.0.2.32")
    with pytest.raises(StageError, match="no connection"):
        judge_connections("", "192.0.2.31", "192.0.2.32")


def evidence(*checks: tuple[str, bool]) -> dict[str, Any]:
    return {"checks": [{"id": name, "ok": ok} for name, ok in checks]}


GOOD = (("network.allow.fabric-1.gpu1", True), ("network.deny.tcp-fabric:gpu2", True))


def test_evidence_must_hold_both_kinds_of_probes() -> None:
    assert judge_evidence(evidence(*GOOD, ("network.deny.tcp-gpu1", False))) == 2
    with pytest.raises(StageError, match="both ways"):
        judge_evidence(evidence(GOOD[0]))
    with pytest.raises(StageError, match="failed"):
        judge_evidence(evidence(GOOD[0], (GOOD[1][0], False)))
