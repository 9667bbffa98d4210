"""Decides which requests are traced and follows them."""

from __future__ import annotations

import random
import time

from tresor_gateway import config_schema as schema
from tresor_gateway.audit.record import Decision
from tresor_gateway.tracing import context as contexts
from tresor_gateway.tracing.context import Context
from tresor_gateway.tracing.exporter import Exporter
from tresor_gateway.tracing.spans import Finished


class Trace:
    """One traced request; ``header`` is for the engine."""

    __slots__ = ("asked_ns", "engine_span", "header", "parent", "sampled", "span", "trace")

    def __init__(self, incoming: Context | None, *, sampled: bool) -> None:
        self.trace = contexts.new_trace() if incoming is None else incoming.trace
        self.parent = "" if incoming is None else incoming.span
        self.span = contexts.new_span()
        self.engine_span = contexts.new_span()
        self.sampled = sampled
        self.asked_ns = time.monotonic_ns()
        self.header = contexts.header(Context(self.trace, self.engine_span), sampled=sampled)


class Tracer:
    """The share of requests that are traced is ours to choose: no client's flag can raise it."""

    def __init__(self, settings: schema.Traces, exporter: Exporter) -> None:
        self._settings = settings
        self.exporter = exporter

    def begin(self, headers: dict[bytes, bytes]) -> Trace | None:
        """Follow a request, or not; one that only continues a client's trace is passed on."""
        sampled = random.random() < self._settings.sampling  # noqa: S311 - no secret
        given = headers.get(b"traceparent") if self._settings.trust_incoming else None
        incoming = contexts.parse(given) if given else None
        if not sampled and incoming is None:
            return None
        return Trace(incoming, sampled=sampled)

    def end(self, trace: Trace, record: Decision, received_ns: int, now_ns: int) -> None:
        """A request is over; times are monotonic."""
        if not trace.sampled:
            return
        # Our clock may have been set meanwhile: only distances are measured.
        ended = time.time_ns() - (time.monotonic_ns() - now_ns)
        self.exporter.add(
            Finished(
                trace.trace,
                trace.span,
                trace.parent,
                trace.engine_span,
                ended - (now_ns - received_ns),
                ended - (now_ns - trace.asked_ns),
                ended,
                record,
            )
        )


def tracer(config: schema.Config, number: int) -> Tracer | None:
    """The tracer of a worker; none unless configured.

    Raises:
        ConfigError: the TLS files cannot be used.
    """
    settings = config.traces
    if settings is None:
        return None
    instance = f"{config.audit.host}-gateway{number}"
    return Tracer(settings, Exporter(settings, config.audit.host, instance))
