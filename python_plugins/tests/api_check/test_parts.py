"""What the plan promises, and counters of engines."""

from __future__ import annotations

from typing import Any

import pytest

from tresor.api_check.client import Endpoint
from tresor.api_check.engines import engine_endpoints
from tresor.api_check.expectations import (
    PlanError,
    Replicas,
    aliases,
    choosers,
    endpoints_of,
    locate,
    rights,
    usable,
    withheld,
)
from tresor.api_check.metrics import MetricMissing, total

METRICS = """\
# HELP vllm:request_success_total Count of successfully processed requests.
# TYPE vllm:request_success_total counter
vllm:request_success_total{engine="0",finished_reason="stop",model_name="smol"} 3.0
vllm:request_success_total{engine="0",finished_reason="length",model_name="a } b"} 4.0
vllm:request_success_created{engine="0",finished_reason="stop"} 1.7e+09
vllm:num_requests_running{engine="0"} 9.0
"""


def test_rights_are_the_union_over_groups(plan: dict[str, Any]) -> None:
    held = rights(plan, ["llm-users", "llm-embedding", "unknown"])
    assert held.models == {"smol", "mini"}
    assert "embeddings" in held.endpoints
    assert rights(plan, ["guests"]).models == frozenset()


def test_usable_and_withheld_models(plan: dict[str, Any]) -> None:
    held = rights(plan, ["llm-users"])
    assert usable(plan, held, "chat") == [Replicas("smol", ("chat-gpu1", "chat-gpu2"))]
    assert usable(plan, held, "embedding") == []
    assert withheld(plan, held) == ["mini"]
    assert aliases(plan, held.models) == {"small"}


def test_names_are_resolved_by_the_plan_alone(plan: dict[str, Any]) -> None:
    assert [e.address for e in endpoints_of(plan, "llm.site.example")] == [
        "198.51.100.20",
        "2001:db8:51::20",
    ]
    assert endpoints_of(plan, "gateway1")[0].address == "198.51.100.20"
    with pytest.raises(PlanError, match=r"no address for localhost"):
        endpoints_of(plan, "localhost")


def test_only_https_addresses_are_located(plan: dict[str, Any]) -> None:
    endpoint, path = locate(plan, "https://idp.company.example:8443/token?x=1")
    assert (endpoint, path) == (
        Endpoint("idp.company.example", "198.51.100.130", 8443),
        "/token?x=1",
    )
    with pytest.raises(PlanError, match="no https URI"):
        locate(plan, "http://idp.company.example/token")


def test_the_counter_is_summed_over_its_series() -> None:
    assert total(METRICS) == 7.0


def test_a_missing_counter_is_an_error_not_zero() -> None:
    with pytest.raises(MetricMissing, match="request_success_total"):
        total(METRICS.replace("request_success_total", "request_total"))


def test_engines_are_found_on_their_hosts() -> None:
    hosts = {"gpu1": {"fqdn": "gpu1.site.example", "ipv4": "198.51.100.31", "ipv6": None}}
    instances = [{"id": "chat-gpu1", "host": "gpu1", "port": 8100}]
    assert engine_endpoints(instances, hosts) == {
        "chat-gpu1": Endpoint("gpu1.site.example", "198.51.100.31", 8100)
    }


def test_a_route_is_listed_for_those_who_may_use_one_of_its_models() -> None:
    routes = [
        {"name": "auto", "default": "big", "rules": [{"model": "small", "max_characters": 9}]},
        {"name": "other", "default": "big"},
    ]
    assert choosers(routes, ["small"]) == {"auto"}
    assert choosers(routes, ["big"]) == {"auto", "other"}
    assert choosers(routes, ["mini"]) == frozenset()
