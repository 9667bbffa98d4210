"""Everything together: a whole run judged, and what happens when a part of it is missing."""

from __future__ import annotations

import base64
import copy
from typing import Any

import pytest

from tresor.evidence.check import Check
from tresor.evidence.gather import Gathered, judge_all

from .conftest import NOW, Ca

OK = Check("probe", "w", "f", "t", "e", "o", True).as_dict()
PLAN: dict[str, Any] = {
    "models": [{"name": "small", "task": "chat"}],
    "hosts": {
        "gpu1": {
            "ipv4": "198.51.100.31",
            "ipv6": "2001:db8:51::31",
            "tls_names": ["gpu1.site.example"],
        }
    },
    "flows": [
        {
            "name": "users-api",
            "from": [{"name": "company", "ipv4": "198.51.100.128/25"}],
            "to": [{"name": "gpu1", "ipv4": "198.51.100.31"}],
        }
    ],
}


def results(ca: Ca) -> dict[str, Any]:
    return {
        "gpu1": {
            "network": {"checks": [OK], "msg": ""},
            "certificate": base64.b64encode(ca.issue()).decode(),
            "control": {"checks": [OK]},
            "engines_before": {"checks": [OK], "served": {"a": 1.0}},
            "engines_after": {"checks": [OK], "served": {"a": 4.0}},
            "services": {"vector": {"checks": [OK]}},
            "audit": {"decided": {"r1": 1}, "refused_early": {"n1": 1}, "problems": []},
        }
    }


API = {
    "checks": [OK],
    "replicas": [{"model": "smol", "instances": ["a"]}],
    "requests": [
        {"check": "x", "request_id": "r1", "method": "GET", "path": "/v1/models", "status": 200},
        {"check": "y", "request_id": "n1", "method": "GET", "path": "/metrics", "status": 404},
    ],
}


def failed(
    ca: Ca,
    found: dict[str, Any],
    *,
    api: dict[str, Any] = API,
    scope: tuple[str, ...] = ("network", "request_path", "services", "control"),
    control_host: str = "gpu1",
    gateways: tuple[str, ...] = ("gpu1",),
) -> set[str]:
    gathered = Gathered(found, api, scope, control_host, gateways, {"vector": ("gpu1",)})
    checks, _ = judge_all(PLAN, gathered, ca.pem, 30, NOW.timestamp())
    return {check.id for check in checks if not check.ok}


def test_a_whole_run_passes(ca: Ca) -> None:
    assert failed(ca, results(ca)) == set()


def test_what_is_not_proven_is_said(ca: Ca) -> None:
    gathered = Gathered(results(ca), API, ("network",), "", ("gpu1",))
    _, uncovered = judge_all(PLAN, gathered, ca.pem, 30, NOW.timestamp())
    assert [item["what"] for item in uncovered] == [
        "flow users-api from company",
        "the services behind the request path",
        "the positive control of the network probes",
    ]


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("network", {"run.network.gpu1"}),
        ("certificate", {"certificate.gpu1"}),
        ("control", {"run.control.gpu1"}),
        ("engines_before", {"run.engines_before.gpu1", "replica.smol.a"}),
        ("engines_after", {"run.engines_after.gpu1", "replica.smol.a"}),
        ("audit", {"audit.decisions", "audit.refused_early"}),
        ("services", {"run.vector.gpu1"}),
    ],
)
def test_every_missing_part_fails(ca: Ca, key: str, expected: set[str]) -> None:
    found = copy.deepcopy(results(ca))
    del found["gpu1"][key]
    assert failed(ca, found) == expected


def test_an_unreachable_host_fails_in_every_part(ca: Ca) -> None:
    assert failed(ca, {}) >= {
        "run.network.gpu1",
        "certificate.gpu1",
        "run.control.gpu1",
        "run.engines_before.gpu1",
        "replica.smol.a",
        "audit.decisions",
    }


def test_no_api_result_no_gateway_and_no_control_host_fail(ca: Ca) -> None:
    assert "run.request_path" in failed(ca, results(ca), api={})
    assert "run.gateways" in failed(ca, results(ca), gateways=())
    assert "run.control" in failed(ca, results(ca), control_host="")


def test_parts_out_of_scope_are_not_judged(ca: Ca) -> None:
    assert failed(ca, results(ca), api={}, scope=("network",)) == set()


def test_a_certificate_that_is_no_base64_fails(ca: Ca) -> None:
    found = copy.deepcopy(results(ca))
    found["gpu1"]["certificate"] = "%%%"
    assert failed(ca, found) == {"certificate.gpu1"}
