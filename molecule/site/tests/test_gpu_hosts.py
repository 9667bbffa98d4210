"""Hosts of CPU engines get nothing of GPU hosts: the plan has no GPUs for them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from testinfra.host import Host

HOSTS = ("gpu1", "gpu2")


def test_plan_has_no_gpus_and_nothing_proves_any(
    connect: Callable[[str], Host], evidence: dict[str, Any]
) -> None:
    plan = json.loads(connect("bastion").file("/var/lib/tresor/plan/plan.json").content_string)

    for host in HOSTS:
        assert plan["tresor_plan"]["hosts"][host]["gpus"] is None
    assert [c["id"] for c in evidence["checks"] if c["id"].startswith(("gpu.", "run.gpu"))] == []


@pytest.mark.parametrize("name", HOSTS)
def test_no_pin_hold_or_watcher_is_there(connect: Callable[[str], Host], name: str) -> None:
    host = connect(name)

    for path in ("/etc/apt/preferences.d/05-tresor-gpu-set", "/var/lib/tresor/gpu"):
        assert not host.file(path).exists
    assert host.run("apt-mark showhold").stdout == ""
    state = host.run("systemctl show --property=LoadState --value tresor-gpu-watcher.service")
    assert state.stdout.strip() == "not-found"
