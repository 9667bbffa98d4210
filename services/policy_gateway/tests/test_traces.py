"""Traces: what a collector gets, what an engine hears, and what neither may ever learn."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from services.policy_gateway.tests.conftest import MakeSite
from services.policy_gateway.tests.support import QUESTION, Engine, EngineRequest, answer, settings
from tresor_gateway import config
from tresor_gateway.errors import ConfigError
from tresor_gateway.metrics.registry import render
from tresor_gateway.tracing import context

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"
INCOMING = f"00-{TRACE}-{SPAN}-01"


@dataclass
class Collector:
    """Takes OTLP over HTTP; ``spans`` is everything it got."""

    engine: Engine = field(default_factory=Engine)
    status: int = 200

    @property
    def endpoint(self) -> str:
        return f"{self.engine.url}/v1/traces"

    @property
    def spans(self) -> list[dict[str, Any]]:
        return [
            span
            for request in self.engine.requests
            for resource in request.body["resourceSpans"]
            for scope in resource["scopeSpans"]
            for span in scope["spans"]
        ]

    async def take(self, request: EngineRequest, writer: asyncio.StreamWriter) -> None:
        await answer(writer, self.status, b"{}")


@pytest_asyncio.fixture
async def collector() -> AsyncIterator[Collector]:
    running = Collector()
    running.engine.script = running.take
    await running.engine.start()
    yield running
    await running.engine.stop()


def attributes(span: dict[str, Any]) -> dict[str, Any]:
    return {entry["key"]: next(iter(entry["value"].values())) for entry in span["attributes"]}


@pytest.mark.asyncio
async def test_request_is_followed_from_the_client_to_the_engine(
    make_site: MakeSite, engines: list[Engine], collector: Collector
) -> None:
    site = await make_site(traces={"endpoint": collector.endpoint, "sampling": 1})
    response = await site.ask(body=QUESTION, headers={"traceparent": INCOMING})
    assert response.status == 200
    [asked] = [request for engine in engines for request in engine.requests]
    await site.stop()
    server, client = collector.spans
    assert (server["traceId"], server["parentSpanId"], server["kind"]) == (TRACE, SPAN, 2)
    assert (client["traceId"], client["parentSpanId"], client["kind"]) == (
        TRACE,
        server["spanId"],
        3,
    )
    assert asked.headers["traceparent"] == f"00-{TRACE}-{client['spanId']}-01"
    about = attributes(server)
    assert about["tresor.request_id"] == response.headers["x-request-id"]
    assert about["http.response.status_code"] == "200"
    assert (server["name"], about["gen_ai.operation.name"]) == ("chat smollm", "chat")
    assert attributes(client)["gen_ai.usage.input_tokens"] == "7"
    times = [int(server["startTimeUnixNano"]), int(client["startTimeUnixNano"])]
    assert times == sorted(times)
    assert times[1] < int(client["endTimeUnixNano"]) < times[0] + 60e9
    [sent] = collector.engine.requests
    assert sent.target == "/v1/traces"
    assert sent.headers["content-type"] == "application/json"
    # Nobody's name, not even the one that stands for it, and nothing that was said.
    [record] = site.decisions()
    text = json.dumps(sent.body)
    for secret in ("alice", "Lima", "Peru", "llm-users", "cli", record["subject"], record["token"]):
        assert f'"{secret}"' not in text
        assert "Lima" not in text


@pytest.mark.asyncio
async def test_refusal_behind_the_endpoint_is_one_span(
    make_site: MakeSite, collector: Collector
) -> None:
    site = await make_site(traces={"endpoint": collector.endpoint, "sampling": 1})
    assert (await site.ask(body={**QUESTION, "model": "none"})).status == 404
    await site.stop()
    [span] = collector.spans
    assert "parentSpanId" not in span
    assert attributes(span)["tresor.reason"] == "model_not_found"


@pytest.mark.asyncio
async def test_share_is_ours_to_choose_and_a_client_s_trace_goes_on_unsampled(
    make_site: MakeSite, engines: list[Engine], collector: Collector
) -> None:
    site = await make_site(traces={"endpoint": collector.endpoint, "sampling": 0})
    for headers in ({"traceparent": INCOMING}, {}, {"traceparent": "00-" + "0" * 32 + "-1-01"}):
        assert (await site.ask(body=QUESTION, headers=headers)).status == 200
    await site.stop()
    assert collector.engine.requests == []
    heard = [r.headers.get("traceparent") for engine in engines for r in engine.requests]
    [passed] = [value for value in heard if value]
    assert passed.startswith(f"00-{TRACE}-")
    assert passed.endswith("-00")
    assert SPAN not in passed


@pytest.mark.asyncio
async def test_client_s_trace_can_be_left_out(
    make_site: MakeSite, collector: Collector, engines: list[Engine]
) -> None:
    section = {"endpoint": collector.endpoint, "sampling": 1, "trust_incoming": False}
    site = await make_site(traces=section)
    await site.ask(body=QUESTION, headers={"traceparent": INCOMING})
    await site.stop()
    assert collector.spans
    assert all(span["traceId"] != TRACE for span in collector.spans)


@pytest.mark.asyncio
async def test_without_the_section_no_header_goes_on(
    make_site: MakeSite, engines: list[Engine]
) -> None:
    site = await make_site()
    await site.ask(body=QUESTION, headers={"traceparent": INCOMING})
    [asked] = [request for engine in engines for request in engine.requests]
    assert "traceparent" not in asked.headers
    assert "tresor_gateway_traces" not in render([site.worker.metrics.registry.collect("0")])


@pytest.mark.asyncio
@pytest.mark.parametrize("case", ["down", "error"])
async def test_collector_that_fails_costs_spans_and_no_request(
    make_site: MakeSite, collector: Collector, case: str
) -> None:
    section = {"endpoint": collector.endpoint, "sampling": 1, "max_queued": 3}
    site = await make_site(traces=section)
    if case == "down":
        await collector.engine.stop()
    else:
        collector.status = 503
    for _ in range(5):
        assert (await site.ask(body=QUESTION)).status == 200
    await site.stop()
    text = render([site.worker.metrics.registry.collect("0")])
    assert 'tresor_gateway_traces_dropped_total{worker="0"} 5' in text
    assert len(site.decisions()) == 5


@pytest.mark.parametrize(
    ("header", "valid"),
    [
        (INCOMING, True),
        (INCOMING.replace("00-4", "01-4") + "-more", True),
        (INCOMING + "-more", False),
        (INCOMING.replace("00-4", "ff-4"), False),
        (INCOMING.upper(), False),
        (f"00-{'0' * 32}-{SPAN}-01", False),
        (f"00-{TRACE}-{'0' * 16}-01", False),
        ("", False),
    ],
)
def test_only_a_valid_header_is_read(header: str, valid: bool) -> None:
    expected = context.Context(TRACE, SPAN) if valid else None
    assert context.parse(header.encode()) == expected


@given(st.binary(max_size=80))
def test_no_header_breaks_the_reader(header: bytes) -> None:
    found = context.parse(header)
    assert found is None or len(found.trace) == 32


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"endpoint": "http://collector.example.com:4318/v1/traces"}, "loopback only"),
        ({"endpoint": "https://collector.example.com/v1/traces"}, "write https://host:port"),
        ({"endpoint": "https://collector.example.com:4318/v1/traces"}, "ca_file: is required"),
        ({"endpoint": "http://127.0.0.1:4318/v1/traces", "sampling": 2}, "traces.sampling"),
        ({"endpoint": "http://127.0.0.1:4318/v1/traces", "cert_file": "/c"}, "belong together"),
    ],
)
def test_mistake_in_the_configuration_is_named(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    values = settings(tmp_path, ["http://127.0.0.1:9"])
    values["traces"] = changes
    with pytest.raises(ConfigError, match=message):
        config.parse(json.dumps(values), "test")
