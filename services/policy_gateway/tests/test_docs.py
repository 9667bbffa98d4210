"""The documents that others read hold what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest
import yaml

from tresor_gateway import config
from tresor_gateway import config_schema as schema
from tresor_gateway.api import errors
from tresor_gateway.api.errors import ApiError
from tresor_gateway.audit import record as records
from tresor_gateway.guardrails.policy import KINDS
from tresor_gateway.metrics.gateway import WATCHED, GatewayMetrics

SERVICE = Path(__file__).parents[1]
DOCS = SERVICE.parents[1] / "docs"
RULES = Path(__file__).parents[3] / "roles" / "prometheus" / "files" / "rules"
SOURCE = SERVICE / "src" / "tresor_gateway"


def sources() -> str:
    return "\n".join(path.read_text() for path in sorted(SOURCE.rglob("*.py")))


def test_every_reason_is_documented() -> None:
    text = (DOCS / "audit-format.md").read_text()
    made = [
        errors.bad_request("x"),
        errors.bad_parameter("x", "x"),
        errors.malformed_http("x"),
        errors.unknown_path(),
        errors.model_not_found("x"),
        errors.too_large(1),
        errors.headers_too_large(1),
        errors.too_slow(),
        errors.forbidden_endpoint("x"),
        errors.upstream_failed(),
        errors.upstream_timeout(),
        errors.internal(),
        errors.content_blocked("x"),
        errors.answer_blocked("x"),
        errors.prompt_too_long(1),
        errors.prompt_too_dense(),
        errors.output_schema("x"),
        errors.queue_full(1),
        errors.audit_late(),
        errors.engine_refused("x", None, large=False),
        errors.context_limit(1),
        *(errors.limit_reached(reason, 1) for reason in errors.LIMIT_TEXTS),
    ]
    reasons = {error.reason for error in made}
    reasons |= set(re.findall(r'(?:unavailable|unauthorized)\(\s*"(\w+)"', sources()))
    reasons |= set(re.findall(r'TokenRefusedError\(\s*"(\w+)"', sources()))
    reasons |= set(re.findall(r'ProblemError\(\s*\w+, "(\w+)"', sources()))
    reasons |= {"ok", "client_closed", "token_key_unknown"}
    assert all(isinstance(error, ApiError) for error in made)
    for reason in sorted(reasons):
        assert f"`{reason}`" in text, reason


@pytest.mark.parametrize(
    "kind",
    [
        records.Decision,
        records.ContentRef,
        records.Start,
        records.Repair,
        records.Gap,
        records.Withheld,
        records.Content,
        records.Base,
    ],
)
def test_every_field_is_documented(kind: type[msgspec.Struct]) -> None:
    text = (DOCS / "audit-format.md").read_text()
    for field in msgspec.structs.fields(kind):
        assert f"`{field.name}`" in text, field.name


def test_every_route_of_the_portal_is_documented() -> None:
    text = (DOCS / "audit-format.md").read_text()
    routes = set(re.findall(r'"(portal\.[\w-]+)"', sources()))
    assert "portal.callback" in routes
    for route in sorted(routes):
        assert f"`{route}`" in text, route


def test_every_metric_is_documented_and_no_other() -> None:
    text = (DOCS / "metrics.md").read_text()
    named = set(re.findall(r'"(tresor_gateway_\w+)"', sources()))
    named |= {"tresor_gateway_worker_up"}
    documented = set(re.findall(r"^\| `(tresor_gateway_\w+)` \|", text, re.MULTILINE))
    assert documented == named


def test_latency_edges_are_the_service_levels() -> None:
    metrics = GatewayMetrics()
    metrics.first.observe(0.4, "chat.completions", "m")
    metrics.total.observe(2.9, "chat.completions", "m")
    text = "\n".join(metrics.first.samples("0") + metrics.total.samples("0"))
    assert (
        'first_token_seconds_bucket{endpoint="chat.completions",model="m",worker="0",le="0.5"} 1'
        in text
    )
    assert (
        'request_duration_seconds_bucket{endpoint="chat.completions",model="m",worker="0",le="3"} 1'
        in text
    )


def test_every_kind_of_finding_can_be_configured() -> None:
    for section in (schema.Incoming, schema.Outgoing):
        assert set(KINDS) < set(section.__struct_fields__)


def test_example_configuration_works() -> None:
    [example] = re.findall(r"```yaml\n(.*?)```", (SERVICE / "README.md").read_text(), re.DOTALL)
    assert yaml.safe_load(example)
    assert config.parse(example, "README.md").models[0].name == "small-model"


def test_example_of_the_portal_works() -> None:
    text = (SERVICE / "README.md").read_text()
    [example] = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    [portal] = re.findall(r"```\n(portal:.*?)```", text, re.DOTALL)
    settings = config.parse(example + portal, "README.md").portal
    assert settings is not None
    assert settings.url == "http://127.0.0.1:8082"


def test_alerts_read_what_is_there_and_what_begins_at_zero() -> None:
    rules = "".join(path.read_text() for path in RULES.glob("*.yml"))
    metrics = (DOCS / "metrics.md").read_text()
    for name in sorted(set(re.findall(r"tresor_gateway_\w+", rules))):
        plain = re.sub(r"_(bucket|count|sum)$", "", name)
        assert f"| `{plain}` |" in metrics, name
    selected = re.findall(r'tresor_gateway_decisions_total\{reason=~?"([\w|]+)"', rules)
    reasons = {reason for found in selected for reason in found.split("|")}
    assert reasons == {reason for _, reason in WATCHED}
    samples = "\n".join(GatewayMetrics().reasons.samples("0"))
    for decision, reason in WATCHED:
        assert f'{{decision="{decision}",reason="{reason}",worker="0"}} 0' in samples
