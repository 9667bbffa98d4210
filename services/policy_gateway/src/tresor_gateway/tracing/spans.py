"""OTLP's JSON (opentelemetry-proto 1.x, "JSON Protobuf Encoding") out of what a request left.

Names follow OpenTelemetry's semantic conventions for HTTP and generative AI, where there are any.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from tresor_gateway import __version__
from tresor_gateway.audit.record import Decision

_SERVER: Final = 2
_CLIENT: Final = 3
_ERROR: Final = 2
_OPERATIONS: Final = {
    "chat.completions": "chat",
    "messages": "chat",
    "responses": "chat",
    "completions": "text_completion",
    "embeddings": "embeddings",
}
_ENCODER: Final = msgspec.json.Encoder()
Value = str | int | float


@dataclass(frozen=True)
class Finished:
    """A request that is over: its ids, its times (nanoseconds since 1970), its record."""

    trace: str
    span: str
    parent: str
    engine_span: str
    began: int
    asked: int
    ended: int
    record: Decision


def batch(finished: Iterable[Finished], host: str, instance: str) -> bytes:
    """One export request."""
    resource: dict[str, Value] = {
        "service.name": "tresor-gateway",
        "service.version": __version__,
        "service.instance.id": instance,
        "host.name": host,
    }
    scope = {"name": "tresor_gateway", "version": __version__}
    spans = [span for one in finished for span in _spans(one)]
    return _ENCODER.encode(
        {
            "resourceSpans": [
                {
                    "resource": {"attributes": _attributes(resource)},
                    "scopeSpans": [{"scope": scope, "spans": spans}],
                }
            ]
        }
    )


def _spans(one: Finished) -> list[dict[str, Any]]:
    record = one.record
    operation = _OPERATIONS.get(record.endpoint, record.endpoint)
    common: dict[str, Value] = {
        "gen_ai.operation.name": operation,
        "gen_ai.request.model": record.model,
    }
    about = common | {
        "http.request.method": "POST",
        "http.response.status_code": record.status,
        "tresor.endpoint": record.endpoint,
        "tresor.request_id": record.request_id,
        "tresor.decision": record.decision,
        "tresor.reason": record.reason,
    }
    name = f"{operation} {record.model}".strip()
    failed = record.decision == "error"
    spans = [_span(one, one.span, one.parent, (_SERVER, name), one.began, about, failed)]
    if record.attempts:
        about = common | {"server.address": record.engine, "tresor.attempts": record.attempts}
        if record.variant:
            about["gen_ai.response.model"] = record.variant
        if record.tokens is not None:
            about["gen_ai.usage.input_tokens"] = record.tokens.prompt
            about["gen_ai.usage.output_tokens"] = record.tokens.completion
        latency = record.latency_us
        if latency is not None and latency.first >= 0:
            about["gen_ai.response.time_to_first_chunk"] = latency.first / 1e6
        spans.append(
            _span(one, one.engine_span, one.span, (_CLIENT, name), one.asked, about, failed)
        )
    return spans


def _span(  # noqa: PLR0917 - a span is what these are
    one: Finished,
    span: str,
    parent: str,
    what: tuple[int, str],
    began: int,
    attributes: dict[str, Value],
    failed: bool,
) -> dict[str, Any]:
    out: dict[str, Any] = {
        "traceId": one.trace,
        "spanId": span,
        "name": what[1],
        "kind": what[0],
        "startTimeUnixNano": str(began),
        "endTimeUnixNano": str(one.ended),
        "attributes": _attributes(attributes),
    }
    if parent:
        out["parentSpanId"] = parent
    if failed:
        out["status"] = {"code": _ERROR}
    return out


def _attributes(values: dict[str, Value]) -> list[dict[str, Any]]:
    return [{"key": key, "value": _value(value)} for key, value in values.items()]


def _value(value: Value) -> dict[str, Any]:
    if isinstance(value, str):
        return {"stringValue": value}
    # 64-bit integers are strings in protobuf's JSON.
    return {"intValue": str(value)} if isinstance(value, int) else {"doubleValue": value}
