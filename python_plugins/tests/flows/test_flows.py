"""Rules and probes say the same about who may talk to whom."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from tresor.flows.page import drawing, table
from tresor.inventory.loader import load_inventory
from tresor.plan.resolve import resolve
from tresor.probe.targets import allowed_probes

ROOT = Path(__file__).parents[3]
SCHEMAS = ROOT / "python_plugins/module_utils/tresor/schema"


@pytest.fixture(scope="module", params=["lab", "single_node", "production"])
def plan(request: pytest.FixtureRequest) -> dict[str, Any]:
    inventory = load_inventory(ROOT / "inventories" / request.param, SCHEMAS)
    found: dict[str, Any] = resolve(inventory)["tresor_plan"]
    return found


@pytest.fixture(scope="module")
def lab() -> dict[str, Any]:
    found: dict[str, Any] = resolve(load_inventory(ROOT / "inventories/lab", SCHEMAS))
    return dict(found["tresor_plan"])


def opens(plan: dict[str, Any], probe: dict[str, Any], family: str) -> bool:
    """Return whether the sender's rules let the probe out, read from the rules alone."""
    address = ipaddress.ip_address(probe[family])
    for rule in plan["hosts"][probe["from"]]["firewall"][family]:
        first, _, last = rule["ports"].partition(":")
        if (
            rule["direction"] == "out"
            and rule["proto"] == probe["proto"]
            and int(first) <= probe["port"] <= int(last or first)
            and address in ipaddress.ip_network(rule["peer"])
            and rule["user"] in (None, probe["user"])
        ):
            return True
    return False


def test_every_allowed_probe_leaves_its_host(plan: dict[str, Any]) -> None:
    for host in plan["hosts"]:
        for probe in allowed_probes(host, plan["flows"], plan["instances"]):
            tried = {**asdict(probe), "from": host, probe.family: probe.address}
            assert opens(plan, tried, probe.family), probe


def test_every_host_is_asked_to_use_an_allowed_flow(lab: dict[str, Any]) -> None:
    for host in lab["hosts"]:
        assert allowed_probes(host, lab["flows"], lab["instances"]), host


def test_plan_holds_no_probe_that_verify_makes_itself(plan: dict[str, Any]) -> None:
    assert set(plan["probes"]) == {"forbidden"}


@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
def test_no_forbidden_probe_leaves_its_host(plan: dict[str, Any], family: str) -> None:
    for probe in plan["probes"]["forbidden"]:
        assert not opens(plan, probe, family), probe


@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
def test_what_leaves_a_host_is_let_into_the_other(plan: dict[str, Any], family: str) -> None:
    hosts = {entry[family]: name for name, entry in plan["hosts"].items()}
    for name, host in plan["hosts"].items():
        for rule in host["firewall"][family]:
            target = hosts.get(rule["peer"].partition("/")[0])
            if rule["direction"] != "out" or target is None:
                continue
            mirrored = {
                (other["flow"], other["ports"])
                for other in plan["hosts"][target]["firewall"][family]
                if other["direction"] == "in"
                and ipaddress.ip_address(host[family]) in ipaddress.ip_network(other["peer"])
            }
            assert (rule["flow"], rule["ports"]) in mirrored, (name, rule)


def test_every_host_probes_the_canary(plan: dict[str, Any]) -> None:
    wanted = {("tcp", 22), ("tcp", 53), ("tcp", 80), ("tcp", 443), ("udp", 53)}
    canary = plan["site"]["externals"]["canary"]
    for host in plan["hosts"]:
        probes = [
            probe
            for probe in plan["probes"]["forbidden"]
            if probe["from"] == host and probe["ipv4"] == canary["ipv4"]
        ]
        assert {(probe["proto"], probe["port"]) for probe in probes} == wanted
        assert all(probe["ipv6"] == canary["ipv6"] for probe in probes)


@pytest.mark.parametrize(
    ("source", "target", "port"),
    [
        ("gpu1", "gpu2", 22),
        ("gpu1", "gpu2", 8100),
        ("gpu1", "bastion1", 22),
        ("ops1", "gpu1", 8100),
        ("gateway1", "vector1", 19530),
        ("gateway1", "gpu1", 8100),  # as root: only the gateway's own user may
    ],
)
def test_lab_forbids(lab: dict[str, Any], source: str, target: str, port: int) -> None:
    (probe,) = [
        probe
        for probe in lab["probes"]["forbidden"]
        if (probe["from"], probe["to"], probe["port"]) == (source, target, port)
    ]
    assert probe["chain"] == "drop:out"
    assert probe["user"] == "root"


def test_ranges_are_probed_where_an_engine_listens(lab: dict[str, Any]) -> None:
    (flow,) = [flow for flow in lab["flows"] if flow["name"] == "gateway-vllm"]
    ports = {
        (probe.target, probe.port, probe.user)
        for probe in allowed_probes("gateway1", [flow], lab["instances"])
    }
    assert ports == {
        ("gpu1", 8100, "tresor-gateway"),
        ("gpu2", 8100, "tresor-gateway"),
        ("gpu2", 8101, "tresor-gateway"),
    }


def test_host_never_needs_a_rule_for_itself() -> None:
    plan = resolve(load_inventory(ROOT / "inventories/single_node", SCHEMAS))["tresor_plan"]
    for host in plan["hosts"].values():
        peers = [rule["peer"] for rule in host["firewall"]["ipv4"]]
        assert f"{host['ipv4']}/32" not in peers


def test_page_shows_the_lab_as_it_is() -> None:
    flows = load_inventory(ROOT / "inventories/lab", SCHEMAS).concerns["flows"]
    page = (ROOT / "docs/flow-matrix.md").read_text(encoding="utf-8")

    assert table(flows) in page, "write the table again: see the end of the page"
    assert drawing(flows) in page, "write the drawing again: see the end of the page"


def test_page_names_every_service_port() -> None:
    from tresor.flows.probes import SERVICE_PORTS

    page = (ROOT / "docs/flow-matrix.md").read_text(encoding="utf-8")
    for group, port in SERVICE_PORTS.items():
        assert re.search(rf"`{group}`[^\n]*{port}", page)
