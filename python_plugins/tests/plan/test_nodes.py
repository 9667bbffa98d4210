"""The plan of an instance over several hosts: who serves, who may meet whom, what is dropped."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from python_plugins.tests.firewall.packets import Packet, verdict
from python_plugins.tests.inventory.spanning import VARS, change, span
from tresor.firewall.render import render
from tresor.firewall.rule import RuleError, parse_rule
from tresor.inventory.loader import load_inventory
from tresor.monitoring.expected import Target, expected_targets
from tresor.plan.resolve import check_plan, resolve
from tresor.probe.targets import allowed_probes, forbidden_probes, owner_probes

ROOT = Path(__file__).parents[3]
SCHEMAS = ROOT / "python_plugins/module_utils/tresor/schema"
UIDS = {
    "vllm": 990,
    "tresor-siem": 991,
    "_chrony": 992,
    "_apt": 42,
    "root": 0,
    "prometheus": 993,
    "tresor-gateway": 994,
}
ENGINE = UIDS["vllm"]


def planned(tmp_path: Path, **changes: Any) -> dict[str, Any]:
    root = Path(shutil.copytree(ROOT / "inventories/lab", tmp_path / "lab"))
    plan = resolve(load_inventory(span(root, **changes), SCHEMAS))
    check_plan(plan, SCHEMAS)
    found: dict[str, Any] = plan["tresor_plan"]
    return found


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return planned(tmp_path_factory.mktemp("plan"))


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    ends = {name: {"tresor_fabric_interface": "site0"} for name in ("gpu1", "gpu2")}
    fabric = {"unencrypted_on_site_network": True}
    return planned(tmp_path_factory.mktemp("shared"), fabric=fabric, ends=ends)


def test_leader_is_the_one_that_is_asked(plan: dict[str, Any]) -> None:
    (found,) = (one for one in plan["instances"] if "nodes" in one)

    assert (found["id"], found["host"]) == ("span-gpu2", "gpu2")
    assert found["nodes"] == {
        "hosts": ["gpu2", "gpu1"],
        "names": ["gpu2.site.example", "gpu1.site.example"],
        "addresses": ["192.0.2.32", "192.0.2.31"],
        "interfaces": ["fabric0", "fabric0"],
        "port": 29500,
    }
    assert found["args"]["pipeline_parallel_size"] == 2
    assert plan["models"][0]["instances"] == ["span-gpu2"]
    assert plan["sizing"]["instances"]["span-gpu2"]["nodes"] == 2
    assert plan["hosts"]["gpu1"]["instances"] == []
    assert plan["hosts"]["gpu1"]["followers"] == ["span-gpu2"]
    assert "span-gpu2" in plan["hosts"]["gpu2"]["instances"]


def test_follower_is_no_missing_engine(plan: dict[str, Any]) -> None:
    engines = [
        target
        for target in expected_targets(plan["hosts"], "ops1", "lite")
        if target.job == "engine"
    ]

    assert Target("engine", "span-gpu2") in engines and len(engines) == len(plan["instances"])


def rules(plan: dict[str, Any], host: str, family: str = "ipv4") -> str:
    entry = plan["hosts"][host]
    known = [parse_rule(rule, family) for rule in entry["firewall"][family]]
    fabric = entry.get("fabric", {})
    dedicated = [fabric["interface"]] if fabric.get("dedicated") else []
    return render(known, family, UIDS, dedicated=dedicated)


def lines(text: str, *words: str) -> list[str]:
    return [line for line in text.splitlines() if all(word in line for word in words)]


def test_only_engines_of_the_two_hosts_meet_on_that_interface(plan: dict[str, Any]) -> None:
    text = rules(plan, "gpu1")

    assert lines(text, "flow:fabric-1") == [
        "-A INPUT -s 192.0.2.32/32 -i fabric0 -p tcp -m tcp --dport 29500:60999 -m conntrack "
        '--ctstate NEW -m comment --comment "flow:fabric-1" -j ACCEPT',
        "-A OUTPUT -d 192.0.2.32/32 -o fabric0 -p tcp -m tcp --dport 29500:60999 -m owner "
        '--uid-owner 990 -m conntrack --ctstate NEW -m comment --comment "flow:fabric-1" -j ACCEPT',
    ]
    for chain, side in (("INPUT", "-i"), ("OUTPUT", "-o")):
        here = lines(text, f"-A {chain} ")
        closed = next(
            n for n, line in enumerate(here) if f"{side} fabric0" in line and "DROP" in line
        )
        others = [n for n, line in enumerate(here) if "flow:" in line and "fabric0" not in line]
        own = [n for n, line in enumerate(here) if "flow:fabric-1" in line]
        assert own[0] < closed < min(others)


@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
def test_nothing_else_passes_that_interface(plan: dict[str, Any], family: str) -> None:
    text = rules(plan, "gpu1", family)

    assert len(lines(text, "-A INPUT -i fabric0", "drop:in", "-j DROP")) == 1
    assert len(lines(text, "-A OUTPUT -o fabric0", "drop:out", "-j DROP")) == 1


def test_hosts_that_are_no_part_have_no_such_rule(plan: dict[str, Any]) -> None:
    for host in ("bastion1", "gateway1", "vector1", "ops1"):
        assert "192.0.2." not in rules(plan, host) and "fabric" not in plan["hosts"][host]


def test_two_instances_do_not_meet(tmp_path: Path) -> None:
    root = Path(shutil.copytree(ROOT / "inventories/lab", tmp_path / "lab"))
    span(root)

    def more(everything: dict[str, Any]) -> None:
        for last in (3, 4):
            everything["children"]["gpu"]["hosts"][f"gpu{last}"] = {
                "ansible_host": f"198.51.100.3{last}",
                "tresor_ipv4": f"198.51.100.3{last}",
                "tresor_ipv6": f"2001:db8:51::3{last}",
                "tresor_hardware": {"memory_gib": 12},
                "tresor_fabric_ipv4": f"192.0.2.3{last}",
                "tresor_fabric_interface": "fabric0",
            }

    def again(entries: list[dict[str, Any]]) -> None:
        (first,) = entries[0]["placement"]
        entries[0]["placement"].append({**first, "instance": "other", "hosts": ["gpu3", "gpu4"]})

    change(root, "hosts.yml", "all", more)
    change(root, f"{VARS}/models.yml", "tresor_models", again)
    found = resolve(load_inventory(root, SCHEMAS))
    check_plan(found, SCHEMAS)

    text = rules(found["tresor_plan"], "gpu1")
    assert "192.0.2.32/32" in text
    assert "192.0.2.33/32" not in text and "192.0.2.34/32" not in text


def test_verify_tries_the_fabric_as_engine_and_as_others(plan: dict[str, Any]) -> None:
    flows, instances = plan["flows"], plan["instances"]
    allowed = [p for p in allowed_probes("gpu1", flows, instances) if p.address == "192.0.2.32"]
    stranger = [p for p in owner_probes("gpu1", flows, instances) if p.address == "192.0.2.32"]
    dropped = [
        (p.port, p.user)
        for p in forbidden_probes("gpu1", plan["probes"]["forbidden"], flows)
        if p.address == "192.0.2.32"
    ]

    assert [(p.port, p.user, p.refusal_is_reach) for p in allowed] == [(29500, "vllm", True)]
    assert [(p.port, p.user) for p in stranger] == [(29500, "nobody")]
    assert {(29500, "root"), (22, "root"), (8100, "root"), (22, "vllm")} <= set(dropped)
    assert (29500, "vllm") not in dropped


def test_verify_tries_the_fabric_from_hosts_that_are_no_part(plan: dict[str, Any]) -> None:
    for host in ("bastion1", "gateway1", "vector1", "ops1"):
        found = forbidden_probes(host, plan["probes"]["forbidden"], plan["flows"])
        assert {p.address for p in found if p.port == 29500} == {"192.0.2.31", "192.0.2.32"}


def test_probes_have_names_of_their_own(plan: dict[str, Any]) -> None:
    for host in plan["hosts"]:
        probes = [
            *allowed_probes(host, plan["flows"], plan["instances"]),
            *forbidden_probes(host, plan["probes"]["forbidden"], plan["flows"]),
            *owner_probes(host, plan["flows"], plan["instances"]),
        ]
        names = [probe.id for probe in probes]
        assert sorted(names) == sorted(set(names))


def test_acknowledged_site_network_stays_open_for_other_flows(shared: dict[str, Any]) -> None:
    text = rules(shared, "gpu1")

    assert shared["hosts"]["gpu1"]["fabric"] == {
        "ipv4": "198.51.100.31",
        "interface": "site0",
        "dedicated": False,
    }
    assert lines(text, "flow:fabric-1", "-s 198.51.100.32/32", "29500:60999")
    assert "site0" not in text
    assert verdict(text, Packet("OUTPUT", "198.51.100.32", "tcp", 29501, uid=ENGINE))[0] == "ACCEPT"
    assert verdict(text, Packet("OUTPUT", "198.51.100.32", "tcp", 29501, uid=0))[0] == "DROP"
    assert verdict(text, Packet("INPUT", "198.51.100.20", "tcp", 29501))[0] == "DROP"


@pytest.mark.parametrize("name", ["lo", "", "ib0; reboot", "a" * 16, 7])
def test_rule_with_a_strange_interface_is_refused(plan: dict[str, Any], name: object) -> None:
    rule = next(r for r in plan["hosts"]["gpu1"]["firewall"]["ipv4"] if "interface" in r)

    with pytest.raises(RuleError, match="interface"):
        parse_rule({**rule, "interface": name}, "ipv4")


def test_wiring_gives_each_host_its_parts() -> None:
    wiring = yaml.safe_load((ROOT / "playbooks/vars/wiring.yml").read_text(encoding="utf-8"))

    assert "nodes.hosts" in wiring["vllm_followers"]
    assert wiring["vllm_node_name"] == "{{ inventory_hostname }}"
    assert "dedicated" in wiring["firewall_dedicated_interfaces"]
