"""The gateway's metrics; ``docs/metrics.md`` is their definition. Never a user or a prompt."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Final

from tresor_gateway.audit.writer import AuditWriter
from tresor_gateway.content.writer import ContentWriter
from tresor_gateway.http.server import HttpServer
from tresor_gateway.identity.keystore import KeyStore
from tresor_gateway.metrics.registry import Counter, Gauge, Histogram, Labels, Registry
from tresor_gateway.tracing.exporter import Exporter
from tresor_gateway.upstream.pool import EnginePool

# 0.5 s and 3 s are the service levels for the first token and the whole answer.
FIRST_EDGES: Final = (0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 5.0, 10.0, 30.0)
TOTAL_EDGES: Final = (0.05, 0.1, 0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0, 300.0)

JUDGING_EDGES: Final = (0.00003, 0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3)


# There from the start with 0: a counter that begins with its first incident shows no increase.
WATCHED: Final = (
    ("deny", "token_algorithm"),
    ("deny", "token_binding"),
    ("deny", "token_signature"),
    ("error", "audit_timeout"),
    ("error", "guardrail_failed"),
    ("error", "guardrail_timeout"),
    ("error", "identity_unavailable"),
    ("error", "internal_error"),
    ("error", "overloaded"),
)


class GatewayMetrics:
    """What requests are counted by."""

    def __init__(self) -> None:
        self.registry = Registry()
        self.requests = Counter(
            "tresor_gateway_requests_total",
            "Answered requests.",
            ("endpoint", "model", "decision", "status"),
        )
        self.reasons = Counter(
            "tresor_gateway_decisions_total",
            "Decisions by the reason given in the audit record.",
            ("decision", "reason"),
        )
        for decision, reason in WATCHED:
            self.reasons.add(decision, reason, amount=0)
        self.tokens = Counter(
            "tresor_gateway_tokens_total", "Tokens as counted by engines.", ("model", "kind")
        )
        self.first = Histogram(
            "tresor_gateway_time_to_first_token_seconds",
            "From the first byte of a streamed request to the first event of its answer.",
            FIRST_EDGES,
            ("endpoint", "model"),
        )
        self.total = Histogram(
            "tresor_gateway_request_duration_seconds",
            "From the first byte of an allowed request to the last byte of its answer.",
            TOTAL_EDGES,
            ("endpoint", "model"),
        )
        self.verdicts = Counter(
            "tresor_gateway_guardrail_verdicts_total",
            "Verdicts of the guardrails on a direction of a request.",
            ("direction", "verdict"),
        )
        self.findings = Counter(
            "tresor_gateway_guardrail_findings_total",
            "Findings of the guardrails by kind or rule.",
            ("direction", "finding"),
        )
        self.judging = Histogram(
            "tresor_gateway_guardrail_seconds",
            "Time spent on judging the texts of a request.",
            JUDGING_EDGES,
        )
        self.routes = Counter(
            "tresor_gateway_routes_total",
            "Requests to a route by the model it chose.",
            ("route", "model"),
        )
        self.queue_full = Counter(
            "tresor_gateway_queue_full_total",
            "Requests refused because all replicas had as many as they may have.",
            ("model",),
        )
        self.variant_requests = Counter(
            "tresor_gateway_variant_requests_total",
            "Requests by the variant of the model that was asked last.",
            ("model", "variant", "decision", "status"),
        )
        self.variant_failures = Counter(
            "tresor_gateway_variant_failures_total",
            "Requests that left a variant without an answer and were given to another engine.",
            ("model", "variant"),
        )
        self.variant_tokens = Counter(
            "tresor_gateway_variant_tokens_total",
            "Tokens as counted by engines, by variant.",
            ("model", "variant", "kind"),
        )
        self.variant_first = Histogram(
            "tresor_gateway_variant_time_to_first_token_seconds",
            "From the first byte of a streamed request to the first event, by variant.",
            FIRST_EDGES,
            ("model", "variant"),
        )
        self.variant_total = Histogram(
            "tresor_gateway_variant_request_duration_seconds",
            "From the first byte of an allowed request to the last byte, by variant.",
            TOTAL_EDGES,
            ("model", "variant"),
        )
        self.classifier_verdicts = Counter(
            "tresor_gateway_classifier_verdicts_total",
            "Texts by what a classifier said of them.",
            ("model", "direction", "verdict"),
        )
        self.classifier_failures = Counter(
            "tresor_gateway_classifier_failures_total",
            "Questions to a classifier without a verdict; what they were about did not pass.",
            ("model", "problem"),
        )
        self.classifier_seconds = Histogram(
            "tresor_gateway_classifier_seconds",
            "From asking a classifier to its verdict.",
            FIRST_EDGES,
            ("model",),
        )
        self.in_flight = 0
        for family in (
            self.routes,
            self.queue_full,
            self.requests,
            self.reasons,
            self.tokens,
            self.first,
            self.total,
            self.verdicts,
            self.findings,
            self.judging,
            self.variant_requests,
            self.variant_failures,
            self.variant_tokens,
            self.variant_first,
            self.variant_total,
            self.classifier_verdicts,
            self.classifier_failures,
            self.classifier_seconds,
        ):
            self.registry.add(family)
        self._gauge("tresor_gateway_requests_in_flight", "Requests now.", lambda: self.in_flight)

    def _gauge(
        self, name: str, help_text: str, read: Callable[[], float], kind: str = "gauge"
    ) -> None:
        self.registry.add(Gauge(name, help_text, lambda: [((), float(read()))], kind=kind))

    def watch_server(self, server: HttpServer) -> None:
        """Connections of clients."""
        self._gauge(
            "tresor_gateway_connections",
            "Open client connections.",
            lambda: len(server.connections),
        )
        self._gauge(
            "tresor_gateway_connections_refused_total",
            "Connections closed because the worker was full.",
            lambda: server.refused_connections,
            kind="counter",
        )

    def watch_keys(self, store: KeyStore) -> None:
        """Age of the signing keys."""

        def age() -> Iterable[tuple[Labels, float]]:
            seconds = store.age
            return [] if seconds is None else [((), seconds)]

        self.registry.add(
            Gauge("tresor_gateway_jwks_age_seconds", "Since the signing keys were fetched.", age)
        )
        self._gauge(
            "tresor_gateway_jwks_failures", "Failed fetches in a row.", lambda: store.failures
        )

    def watch_audit(self, audit: AuditWriter) -> None:
        """The audit log."""
        self._gauge(
            "tresor_gateway_audit_records_total",
            "Records on disk.",
            lambda: audit.written,
            kind="counter",
        )
        self._gauge(
            "tresor_gateway_audit_commits_total",
            "Synced writes.",
            lambda: audit.commits,
            kind="counter",
        )
        self._gauge(
            "tresor_gateway_audit_pending_records", "Not on disk yet.", lambda: audit.pending
        )
        self._gauge(
            "tresor_gateway_audit_healthy", "1 while records reach the disk.", lambda: audit.healthy
        )
        self._gauge(
            "tresor_gateway_audit_chain_breaks",
            "Chains found damaged by more than a crash at start.",
            lambda: audit.breaks,
        )

    def watch_content(self, content: ContentWriter) -> None:
        """The content store."""
        for name, help_text, read in (
            ("tresor_gateway_content_kept_total", "Kept requests.", lambda: content.kept),
            (
                "tresor_gateway_content_kept_bytes_total",
                "Bytes of ciphertext written.",
                lambda: content.kept_bytes,
            ),
            (
                "tresor_gateway_content_commits_total",
                "Synced writes of content.",
                lambda: content.commits,
            ),
            (
                "tresor_gateway_content_failed_total",
                "Requests whose content could not be kept; they were not answered.",
                lambda: content.failed,
            ),
        ):
            self._gauge(name, help_text, read, kind="counter")
        self._gauge(
            "tresor_gateway_content_pending_bytes",
            "Content that is not on disk yet.",
            lambda: content.pending_bytes,
        )
        self._gauge(
            "tresor_gateway_content_healthy",
            "1 while content can be kept.",
            lambda: content.healthy,
        )
        self._gauge(
            "tresor_gateway_content_free_bytes",
            "What the file system of the content has left.",
            lambda: content.free_bytes,
        )

    def watch_traces(self, exporter: Exporter) -> None:
        """Traces for the site's collector."""
        self._gauge(
            "tresor_gateway_traces_sent_total",
            "Traced requests that the collector has.",
            lambda: exporter.sent,
            kind="counter",
        )
        self._gauge(
            "tresor_gateway_traces_dropped_total",
            "Traced requests that could not be sent.",
            lambda: exporter.dropped,
            kind="counter",
        )

    def watch_engines(self, pool: EnginePool) -> None:
        """Health and load of the engines as this worker sees them."""
        self.registry.add(
            Gauge(
                "tresor_gateway_engine_healthy",
                "0 while an engine is left alone after a failure.",
                lambda: [((e.address,), float(pool.is_healthy(e))) for e in pool.engines],
                ("engine",),
            )
        )
        self.registry.add(
            Gauge(
                "tresor_gateway_engine_requests_in_flight",
                "Requests an engine works on.",
                lambda: [((e.address,), float(e.in_flight)) for e in pool.engines],
                ("engine",),
            )
        )

    def watch_process(self, started: float | None = None) -> None:
        """Start time (Unix seconds)."""
        moment = time.time() if started is None else started
        self._gauge("tresor_gateway_start_time_seconds", "When the worker started.", lambda: moment)
