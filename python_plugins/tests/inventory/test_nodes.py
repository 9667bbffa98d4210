"""An instance over several hosts: what is wrong is told, and what is right is one instance."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tresor.inventory.loader import load_inventory
from tresor.inventory.problems import InventoryError, Problem

from .conftest import SCHEMAS
from .spanning import ENDS, FLOW, VARS, change, span


def problems_of(root: Path) -> tuple[Problem, ...]:
    with pytest.raises(InventoryError) as caught:
        load_inventory(root, SCHEMAS)
    return caught.value.problems


def test_good_one_is_one_instance_on_its_first_host(lab: Path) -> None:
    inventory = load_inventory(span(lab), SCHEMAS)

    (found,) = (p for p in inventory.capacity.placement.placed if p.wanted.nodes > 1)
    assert (found.id, found.host, found.followers) == ("span-gpu2", "gpu2", ("gpu1",))


# what is changed, file, key, what the message says, what it advises
CASES: dict[str, tuple[dict[str, Any], str, str, str, str]] = {
    "too-few-hosts": (
        {"hosts": ["gpu1"]}, "models.yml", "tresor_models[0].placement[0].hosts",
        "spans 2 hosts and 1 are named", "write 2 hosts",
    ),
    "too-many-hosts-for-the-ranks": (
        {"parallelism": {"tensor": 1, "pipeline": 3}}, "models.yml",
        "tresor_models[0].parallelism", "1 x 3 are 3 ranks, which 2 hosts cannot share",
        "pipeline: 2",
    ),
    "more-ranks-than-cpu-hosts": (
        {"parallelism": {"tensor": 1, "pipeline": 4}}, "models.yml",
        "tresor_models[0].parallelism", "the CPU engine has one on each", "pipeline: 2",
    ),
    "tensor-that-nobody-states": (
        {"parallelism": {"tensor": "auto", "pipeline": 2}}, "models.yml",
        "tresor_models[0].parallelism.tensor", "cannot be chosen", "best within one host",
    ),
    "groups-beside-nodes": (
        {"groups": ["gpu"]}, "models.yml", "tresor_models[0].placement[0].groups",
        "one instance over the hosts it names", "groups: []",
    ),
    "no-fabric": (
        {"fabric": None, "flow": None, "ends": {}}, "models.yml",
        "tresor_models[0].placement[0].nodes", "unencrypted", "unencrypted_on_site_network: true",
    ),
    "no-flow": (
        {"flow": None}, "models.yml", "tresor_models[0].placement[0].nodes",
        "no flow lets the hosts of an engine reach one another on tcp 29500:60999",
        'ports: "29500:60999" user: vllm',
    ),
    "flow-with-too-few-ports": (
        {"flow": {**FLOW, "ports": "29500:29501"}}, "models.yml",
        "tresor_models[0].placement[0].nodes", "no flow lets the hosts", "29500:60999",
    ),
    "flow-to-others": (
        {"flow": {**FLOW, "to": ["fabric", "ops"]}}, "flows.yml", "tresor_flows[13]",
        "where only hosts of one engine may meet", "from: [fabric] and to: [fabric]",
    ),
    "flow-for-everybody": (
        {"flow": {k: v for k, v in FLOW.items() if k != "user"}}, "flows.yml",
        "tresor_flows[13]", "opens the fabric to more than the engines", "user: vllm",
    ),
    "fabric-inside-the-site": (
        {"fabric": {"ipv4": "198.51.100.0/26"}}, "site.yml", "tresor_site.fabric.ipv4",
        "overlaps site (198.51.100.0/25)", "only the hosts of engines",
    ),
    "fabric-with-an-external": (
        {"fabric": {"ipv4": "203.0.113.0/24"}}, "site.yml", "tresor_site.fabric.ipv4",
        "holds the external canary (203.0.113.10)", "only the hosts of engines",
    ),
    "fabric-of-both-kinds": (
        {"fabric": {"ipv4": "192.0.2.0/26", "unencrypted_on_site_network": True}}, "site.yml",
        "tresor_site.fabric", "does not fit", "either ipv4",
    ),
    "acknowledged-with-no": (
        {"fabric": {"unencrypted_on_site_network": False}}, "site.yml",
        "tresor_site.fabric.unencrypted_on_site_network", "has the wrong value", "true",
    ),
    "address-outside-the-fabric": (
        {"ends": {**ENDS, "gpu1": {**ENDS["gpu1"], "tresor_fabric_ipv4": "198.51.100.99"}}},
        "hosts.yml", "all.children.gpu.hosts.gpu1.tresor_fabric_ipv4",
        "is no host address of the fabric 192.0.2.0/26", "write an address of 192.0.2.0/26",
    ),
    "address-twice": (
        {"ends": {**ENDS, "gpu2": ENDS["gpu1"]}}, "hosts.yml",
        "all.children.gpu.hosts.gpu2.tresor_fabric_ipv4", "is also the address of gpu1",
        "used once",
    ),
    "address-without-fabric": (
        {"fabric": {"unencrypted_on_site_network": True}}, "hosts.yml",
        "all.children.gpu.hosts.gpu1.tresor_fabric_ipv4", "the site uses its own network",
        "remove it",
    ),
    "host-without-interface": (
        {"ends": {"gpu1": ENDS["gpu1"], "gpu2": {"tresor_fabric_ipv4": "192.0.2.32"}}},
        "hosts.yml", "all.children.gpu.hosts.gpu2.tresor_fabric_interface", "missing key",
        "tresor_fabric_interface: ib0",
    ),
    "loopback-as-interface": (
        {"ends": {**ENDS, "gpu2": {**ENDS["gpu2"], "tresor_fabric_interface": "lo"}}},
        "hosts.yml", "all.children.gpu.hosts.gpu2.tresor_fabric_interface", "is no interface",
        "such as ib0",
    ),
    "one-node": (
        {"nodes": 1}, "models.yml", "tresor_models[0].placement[0].nodes", "is below 2",
        "2 to 16",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_mistake_is_told(lab: Path, case: str) -> None:
    changes, file, key, wrong, fix = CASES[case]

    found = problems_of(span(lab, **changes))

    told = [p for p in found if p.key == key and wrong in p.wrong]
    assert told, [str(problem) for problem in found]
    assert told[0].file.endswith(file) and fix in told[0].fix and told[0].line > 0


def test_hosts_must_be_equal(lab: Path) -> None:
    def other(everything: dict[str, Any]) -> None:
        hardware = {"gpu": "A100 SXM 80GB", "gpus": 8}
        everything["children"]["gpu"]["hosts"]["gpu1"]["tresor_hardware"] = hardware

    root = span(lab)
    change(root, "hosts.yml", "all", other)

    found = [p for p in problems_of(root) if "hosts must be equal" in p.wrong]
    assert {p.key for p in found} == {"tresor_models[0].placement[0].hosts[1]"}
    assert "gpus is 8 there and not stated on gpu2" in " ".join(p.wrong for p in found)


def test_ports_of_two_instances_of_one_leader_do_not_meet(lab: Path) -> None:
    root = span(lab)

    def twice(entries: list[dict[str, Any]]) -> None:
        (first,) = entries[0]["placement"]
        entries[0]["placement"].append(
            {**first, "instance": "again", "port": 8111, "fabric_port": 29501}
        )

    change(root, f"{VARS}/models.yml", "tresor_models", twice)

    assert any("ports 29501 and 29502 of gpu2 belong" in p.wrong for p in problems_of(root))


def test_interfaces_of_ranks_are_tresors(lab: Path) -> None:
    root = span(lab)

    def own(entries: list[dict[str, Any]]) -> None:
        entries[0]["engine"]["env"]["NCCL_SOCKET_IFNAME"] = "eth0"

    change(root, f"{VARS}/models.yml", "tresor_models", own)

    (found,) = problems_of(root)
    assert found.key == "tresor_models[0].engine.env.NCCL_SOCKET_IFNAME"
    assert "tresor_fabric_interface" in found.fix


def test_fabric_port_belongs_to_nodes(lab: Path) -> None:
    def port(entries: list[dict[str, Any]]) -> None:
        entries[0]["placement"][0]["fabric_port"] = 29510

    change(lab, f"{VARS}/models.yml", "tresor_models", port)

    (found,) = problems_of(lab)
    assert found.key == "tresor_models[0].placement[0].fabric_port" and "write nodes" in found.fix


@pytest.mark.parametrize(
    "option", ["nnodes", "node_rank", "master_addr", "headless", "distributed_executor_backend"]
)
def test_options_of_several_hosts_have_their_own_key(lab: Path, option: str) -> None:
    def given(entries: list[dict[str, Any]]) -> None:
        entries[0]["engine"]["args"][option] = 2

    change(lab, f"{VARS}/models.yml", "tresor_models", given)

    (found,) = problems_of(lab)
    assert found.wrong == "has its own key" and "nodes" in found.fix


@pytest.mark.parametrize(
    "value", [{"mode": 2}, {"mode": 2, "backend": "own.module"}, {"mode": 4, "backend": "eager"}]
)
def test_compilation_takes_mode_and_known_backend_alone(lab: Path, value: object) -> None:
    def given(entries: list[dict[str, Any]]) -> None:
        entries[0]["engine"]["args"]["compilation_config"] = value

    change(lab, f"{VARS}/models.yml", "tresor_models", given)

    (found,) = problems_of(lab)
    assert "eager or inductor" in found.fix
