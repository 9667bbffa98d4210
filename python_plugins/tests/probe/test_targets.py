"""Which probes a host sends, from a small plan."""

from __future__ import annotations

from typing import Any

import pytest

from tresor.probe.targets import (
    ProbeInputError,
    allowed_probes,
    forbidden_probes,
    owner_probes,
    uncovered_flows,
)

BASTION = {"name": "bastion1", "ipv4": "198.51.100.10", "ipv6": "2001:db8:51::10"}
GATEWAY = {"name": "gateway1", "ipv4": "198.51.100.20", "ipv6": "2001:db8:51::20"}
GPU = {"name": "gpu1", "ipv4": "198.51.100.31/32", "ipv6": "2001:db8:51::31/128"}
COMPANY = {"name": "company", "ipv4": "198.51.100.128/25", "ipv6": "2001:db8:52::/64"}
CANARY = {"to": "canary", "ipv4": "203.0.113.10", "ipv6": "2001:db8:53::10"}


def flow(name: str, source: Any, target: Any, **more: Any) -> dict[str, Any]:
    base = {"name": name, "proto": "tcp", "ports": "443", "user": None}
    return {**base, "from": [source], "to": [target], **more}


VLLM = flow("gateway-vllm", GATEWAY, GPU, ports="8100:8199", user="tresor-gateway")
INSTANCES = [{"id": "chat-gpu1", "host": "gpu1", "port": 8100}]


def test_a_range_is_probed_where_an_instance_listens() -> None:
    probes = allowed_probes("gateway1", [VLLM], INSTANCES)
    assert [(p.port, p.family, p.address, p.user, p.refusal_is_reach) for p in probes] == [
        (8100, "ipv4", "198.51.100.31", "tresor-gateway", False),
        (8100, "ipv6", "2001:db8:51::31", "tresor-gateway", False),
    ]


def test_a_range_without_an_instance_counts_a_refusal_as_arrival() -> None:
    probes = allowed_probes("gateway1", [VLLM], [])
    assert {(p.port, p.refusal_is_reach) for p in probes} == {(8100, True)}


def test_a_host_does_not_probe_itself_and_no_flow_of_others() -> None:
    everyone = flow("ssh", BASTION, BASTION, ports="22")
    assert allowed_probes("bastion1", [everyone], []) == []
    assert allowed_probes("gpu1", [VLLM], INSTANCES) == []


def test_a_family_that_one_end_lacks_is_not_probed() -> None:
    probes = allowed_probes("bastion1", [flow("x", BASTION, {**GATEWAY, "ipv6": None})], [])
    assert [p.family for p in probes] == ["ipv4"]


def test_forbidden_probes_run_as_root_and_as_every_flow_owner() -> None:
    entry = {"from": "gateway1", "proto": "tcp", "port": 443, **CANARY}
    probes = forbidden_probes("gateway1", [entry, {**entry, "from": "gpu1"}], [VLLM])
    assert {(p.user, p.family) for p in probes} == {
        ("root", "ipv4"),
        ("root", "ipv6"),
        ("tresor-gateway", "ipv4"),
        ("tresor-gateway", "ipv6"),
    }
    assert not any(p.allowed for p in probes)


def test_an_owner_is_not_tried_where_its_flow_leads() -> None:
    entry = {"from": "gateway1", "to": "gpu1", "proto": "tcp", "port": 8100, "user": "root"}
    addresses = {"ipv4": "198.51.100.31", "ipv6": None}
    to_network = {**VLLM, "to": [{"name": "gpus", "ipv4": "198.51.100.0/26", "ipv6": None}]}
    for flows in ([VLLM], [to_network]):
        probes = forbidden_probes("gateway1", [{**entry, **addresses}], flows)
        assert [p.user for p in probes] == ["root"]
    other_port = {**entry, **addresses, "port": 22}
    probes = forbidden_probes("gateway1", [other_port], [VLLM])
    assert [p.user for p in probes] == ["root", "tresor-gateway"]


def test_a_flow_with_an_owner_is_tried_as_a_stranger() -> None:
    probes = owner_probes("gateway1", [VLLM], INSTANCES)
    assert {(p.user, p.port, p.allowed) for p in probes} == {("nobody", 8100, False)}


def test_a_stranger_is_not_tried_where_another_flow_is_open_to_all() -> None:
    open_flow = flow("monitoring", GATEWAY, GPU, ports="8100")
    assert owner_probes("gateway1", [VLLM, open_flow], INSTANCES) == []


def test_two_owners_of_one_port_give_one_stranger_probe_per_family() -> None:
    flows = [
        flow("store-root", GPU, BASTION, ports="8443", user="root"),
        flow("store-apt", GPU, BASTION, ports="8443", user="_apt"),
    ]
    assert len(owner_probes("gpu1", flows, [])) == 2


def test_flows_from_outside_are_named_as_uncovered() -> None:
    users = flow("users-api", COMPANY, GATEWAY)
    found = uncovered_flows(["gateway1"], [users, VLLM])
    assert [item.what for item in found] == ["flow users-api from company"]


def test_unreadable_ports_name_the_flow() -> None:
    with pytest.raises(ProbeInputError, match=r"flow x: ports are 'https'"):
        allowed_probes("bastion1", [flow("x", BASTION, GATEWAY, ports="https")], [])


def test_ids_are_unique() -> None:
    entries = [
        {"from": "gateway1", "proto": proto, "port": 53, **CANARY} for proto in ("tcp", "udp")
    ]
    probes = forbidden_probes("gateway1", entries, [VLLM])
    probes += allowed_probes("gateway1", [VLLM], INSTANCES)
    probes += owner_probes("gateway1", [VLLM], INSTANCES)
    assert len({p.id for p in probes}) == len(probes)
