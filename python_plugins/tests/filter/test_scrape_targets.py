"""Which targets come out of the plan, and which of them the flow matrix lacks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError

from python_plugins.filter.tresor_flow_gaps import tresor_flow_gaps
from python_plugins.filter.tresor_scrape_targets import tresor_scrape_targets
from tresor.inventory.loader import load_inventory
from tresor.plan.resolve import resolve

ROOT = Path(__file__).parents[3]
SCHEMAS = ROOT / "python_plugins/module_utils/tresor/schema"
JOBS: list[dict[str, Any]] = [
    {"job": "node", "port": 9100, "path": "/node", "hosts": ["gpu1", "ops1"]},
    {"job": "engine", "port": 9100, "instance_path": "/engine/{id}", "hosts": ["gpu1", "ops1"]},
    {"job": "prometheus", "port": 9090, "path": "/metrics", "hosts": ["ops1"]},
]
HOSTS = {
    "gpu1": {"fqdn": "gpu1.example", "groups": ["gpu"], "instances": ["chat-gpu1"]},
    "ops1": {"fqdn": "ops1.example", "groups": ["ops", "gateway"], "instances": []},
}


def flow(**changed: Any) -> dict[str, Any]:
    base = {
        "proto": "tcp",
        "ports": "9100",
        "user": "prometheus",
        "from": [{"name": "ops1"}],
        "to": [{"name": "gpu1"}, {"name": "ops1"}],
    }
    return {**base, **changed}


def gaps(*flows: dict[str, Any]) -> list[str]:
    targets = tresor_scrape_targets(HOSTS, JOBS)
    return tresor_flow_gaps(targets, list(flows), "ops1", "prometheus")


def test_each_job_is_a_target_on_its_hosts_and_each_instance_one_of_its_own() -> None:
    found = tresor_scrape_targets(HOSTS, JOBS)
    assert [(t["job"], t["host"], t["instance"], t["path"]) for t in found] == [
        ("engine", "gpu1", "chat-gpu1", "/engine/chat-gpu1"),
        ("node", "gpu1", "gpu1", "/node"),
        ("node", "ops1", "ops1", "/node"),
        ("prometheus", "ops1", "ops1", "/metrics"),
    ]
    assert found[2] == {
        "job": "node",
        "host": "ops1",
        "group": "gateway,ops",
        "instance": "ops1",
        "name": "ops1.example",
        "port": 9100,
        "path": "/node",
    }


def test_a_host_that_the_plan_lacks_is_named() -> None:
    with pytest.raises(AnsibleFilterError, match="job node names the host 'gone'"):
        tresor_scrape_targets(HOSTS, [{"job": "node", "port": 1, "path": "/", "hosts": ["gone"]}])


def test_what_a_flow_allows_is_no_gap_and_the_host_itself_needs_none() -> None:
    assert gaps(flow()) == []
    assert gaps(flow(user=None, ports="9000:9200")) == []


@pytest.mark.parametrize(
    "changed",
    [
        {"proto": "udp"},
        {"ports": "9101"},
        {"ports": "9200:9300"},
        {"user": "root"},
        {"from": [{"name": "bastion1"}]},
        {"to": [{"name": "ops1"}]},
    ],
    ids=["protocol", "port", "range", "user", "source", "target"],
)
def test_a_target_without_its_flow_is_a_gap(changed: dict[str, Any]) -> None:
    assert gaps(flow(**changed)) == ["gpu1.example:9100 (engine)", "gpu1.example:9100 (node)"]


@pytest.mark.parametrize("site", ["lab", "production", "single_node"])
def test_every_example_site_may_scrape_all_its_hosts(site: str) -> None:
    plan = resolve(load_inventory(ROOT / "inventories" / site, SCHEMAS))["tresor_plan"]
    jobs = [{"job": "node", "port": 9100, "path": "/node", "hosts": list(plan["hosts"])}]
    targets = tresor_scrape_targets(plan["hosts"], jobs)
    assert len(targets) == len(plan["hosts"])
    for name, host in plan["hosts"].items():
        if "ops" in host["groups"]:
            assert tresor_flow_gaps(targets, plan["flows"], name, "prometheus") == []
            # Another user on the same host must not get through.
            assert len(tresor_flow_gaps(targets, plan["flows"], name, "www-data")) > 0
