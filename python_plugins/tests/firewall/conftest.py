"""The lab's plan, and users with numbers."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tresor.firewall.render import render
from tresor.firewall.rule import parse_rule
from tresor.inventory.loader import load_inventory
from tresor.plan.resolve import resolve

ROOT = Path(__file__).parents[3]
SCHEMAS = ROOT / "python_plugins/module_utils/tresor/schema"
UIDS = {
    "root": 0,
    "_apt": 42,
    "_chrony": 101,
    "tresor-gateway": 990,
    "prometheus": 117,
    "tresor-siem": 991,
}
LINK = "2001:db8:51::/64"

Rendered = Callable[[str, str], str]


@pytest.fixture(scope="session")
def plan() -> dict[str, Any]:
    found: dict[str, Any] = resolve(load_inventory(ROOT / "inventories/lab", SCHEMAS))
    return dict(found["tresor_plan"])


@pytest.fixture(scope="session")
def rendered(plan: dict[str, Any]) -> Rendered:
    """Render the rules of a lab host in a family."""

    def of(host: str, family: str) -> str:
        rules = [parse_rule(entry, family) for entry in plan["hosts"][host]["firewall"][family]]
        return render(rules, family, UIDS, LINK)

    return of


@pytest.fixture(scope="session")
def kernel() -> None:
    """Skip where no network namespace with iptables can be had."""
    try:
        command = ["unshare", "--net", "sh", "-c", "iptables-save && ip6tables-save"]
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"needs root, unshare and iptables: {error}")
