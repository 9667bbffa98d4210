"""One request from its head to its record: everything about it that is worth remembering."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Literal

from tresor_gateway.api import engine_text, errors
from tresor_gateway.api.answers import Tokens
from tresor_gateway.api.endpoints import Endpoint
from tresor_gateway.api.errors import ApiError
from tresor_gateway.audit import record as records
from tresor_gateway.audit.uuid7 import uuid7
from tresor_gateway.audit.withholding import StrictAnswer
from tresor_gateway.catalogue import Model
from tresor_gateway.guardrails.pipeline import Guard
from tresor_gateway.http.exchange import EVENT_STREAM, Exchange, Headers
from tresor_gateway.identity.authenticator import Identity
from tresor_gateway.upstream.forward import Forward
from tresor_gateway.upstream.pool import Replica
from tresor_gateway.upstream.sse import DONE

if TYPE_CHECKING:
    from tresor_gateway.classifier.panel import Session
    from tresor_gateway.content.kept import Keeper
    from tresor_gateway.gateway import Gateway
    from tresor_gateway.tracing.tracer import Trace
    from tresor_gateway.usage.table import Ticket

Verdict = Literal["allow", "deny", "error"]
UNKNOWN_ENDPOINT = "unknown"
CLIENT_CLOSED = 499


def _nothing() -> None:
    return


_SLOTS: Final = (
    "_gateway",
    "_in_work",
    "_recorded",
    "_streaming",
    "auth_pending",
    "end_mark",
    "endpoint",
    "endpoint_name",
    "exchange",
    "first_ns",
    "forward",
    "guard",
    "identity",
    "keeper",
    "model",
    "parameters",
    "route",
    "session",
    "ticket",
    "trace",
)


class Call:
    """Answers its exchange once and writes one record for it, in that order of commitment."""

    __slots__ = _SLOTS

    def __init__(self, gateway: Gateway, exchange: Exchange) -> None:
        self._gateway = gateway
        self._in_work = False
        self._recorded = False
        self._streaming = False
        self.exchange = exchange
        self.endpoint: Endpoint | None = None
        self.endpoint_name = UNKNOWN_ENDPOINT
        self.identity: Identity | None = None
        self.model: Model | None = None
        self.forward: Forward | None = None
        self.guard: Guard | None = None
        self.keeper: Keeper | None = None
        self.session: Session | None = None
        self.trace: Trace | None = None
        self.first_ns: int | None = None
        self.parameters: dict[str, int | bool] = {}
        self.route = ""
        self.end_mark = DONE
        self.ticket: Ticket | None = None
        self.auth_pending = False

    def begin(self) -> None:
        """The request is whole: from now on it counts as work, until it is over.

        One that is still being sent does not: slow senders would keep the others out.
        """
        self._in_work = True
        self._gateway.metrics.in_flight += 1

    def take_over(self, call: Call) -> None:
        """Become the one that answers for the request of ``call``."""
        for name in _SLOTS:
            setattr(self, name, getattr(call, name))
        self.exchange.context = self

    def _shape(self, error: ApiError) -> bytes:
        """A refusal's body as the endpoint's clients expect it."""
        endpoint = self.endpoint
        anthropic = endpoint is not None and endpoint.anthropic
        return error.anthropic_body() if anthropic else error.body()

    @property
    def streaming(self) -> bool:
        """Whether a stream has been opened."""
        return self._streaming

    @property
    def over(self) -> bool:
        """Whether the request has been answered or given up."""
        return self._recorded

    # --- answers --------------------------------------------------------------------------------

    def succeed(self, status: int, body: bytes, headers: Headers = ()) -> None:
        """An answer made or passed on by us."""
        exchange = self.exchange
        self._record(
            "allow", "ok", status, len(body), lambda: exchange.respond(status, body, headers)
        )

    def refuse(self, error: ApiError) -> None:
        """An answer that is not the one asked for."""
        decision: Verdict = "deny" if error.denied else "error"
        size, end = self._refusal(error)
        self._record(decision, error.reason, error.status, size, end)

    def _refusal(self, error: ApiError) -> tuple[int, Callable[[], None]]:
        """How many bytes a refusal has, and how it is sent."""
        exchange, body = self.exchange, self._shape(error)
        return len(body), lambda: exchange.respond(error.status, body, error.headers)

    def authorized(self) -> None:
        """NGINX's question was answered with yes: no decision yet, so no record."""
        self._finished()
        self.exchange.respond(204, b"")

    def refuse_without_record(self, error: ApiError) -> None:
        """The audit log is not available: refuse, and let its writer count it."""
        self._finished()
        self.exchange.respond(error.status, self._shape(error), error.headers)

    # --- the engine's side (Receiver) ---------------------------------------------------------

    def stream_data(self, data: bytes) -> None:
        """Whole events; the first ones open the stream."""
        exchange = self.exchange
        if self._streaming:
            exchange.write(data)
            return
        self._streaming = True
        self.first_ns = time.monotonic_ns()
        exchange.start_stream(EVENT_STREAM, data)

    def stream_end(self) -> None:
        """The end mark is ours to send, after the record."""
        exchange, mark = self.exchange, self.end_mark
        first = not self._streaming

        def end() -> None:
            if first:
                exchange.start_stream(EVENT_STREAM, mark)
                exchange.end_stream()
            else:
                exchange.end_stream(mark)

        self._record("allow", "ok", 200, exchange.sent_bytes + len(mark), end)

    def stream_cut(self, error: ApiError) -> None:
        """Say that the answer is incomplete: an error event, no end mark, no reuse."""
        size, end = self._cut(error)
        self._record("error", error.reason, 200, size, end)

    def _cut(self, error: ApiError) -> tuple[int, Callable[[], None]]:
        exchange = self.exchange
        event = b"data: " + self._shape(error) + b"\n\n"
        if self.endpoint is not None and self.endpoint.anthropic:
            event = b"event: error\n" + event

        def end() -> None:
            exchange.close_connection()
            exchange.end_stream(event)

        return exchange.sent_bytes + len(event), end

    def answer(self, body: bytes) -> None:
        """A complete answer."""
        self.succeed(200, body)

    def refused(self, error: ApiError) -> None:
        """No answer; what the engine says about it is heard only as far as it may be."""
        if error.said and self.guard is not None:
            error.message = engine_text.for_client(error.said, self.guard) or error.message
        self.refuse(error)

    def client_gone(self) -> None:
        """Stop the engine's work; the request still gets its record."""
        if self.forward is not None:
            self.forward.cancel()
        if self.session is not None:
            self.session.cancel()
        # Whose token was still being looked at has not been allowed anything.
        decision: Verdict = "allow" if self.identity is not None else "deny"
        self._record(decision, "client_closed", CLIENT_CLOSED, self.exchange.sent_bytes, _nothing)

    # --- the record -----------------------------------------------------------------------------

    def _record(
        self, decision: Verdict, reason: str, status: int, size: int, then: Callable[[], None]
    ) -> None:
        if self._recorded:
            return
        self._finished()
        exchange, forward = self.exchange, self.forward
        now = time.monotonic_ns()
        record = records.Decision(
            id=uuid7(),
            time=records.timestamp(time.time()),
            request_id=exchange.request_id.decode(),
            decision=decision,
            reason=reason,
            status=status,
            endpoint=self.endpoint_name,
            parameters=self.parameters,
            latency_us=records.Latency(total=(now - exchange.received_ns) // 1000),
            request_bytes=len(exchange.body),
            response_bytes=size,
        )
        identity = self.identity
        if identity is not None:
            record.subject = identity.subject
            record.tenant = identity.tenant
            record.client = identity.client
            record.auth = identity.auth
            record.account = identity.account
            record.token = identity.token
            record.groups = list(identity.grant.groups)
        if self.model is not None:
            record.model = self.model.name
            record.model_digest = self.model.artefact_digest
        record.route = self.route
        tokens: Tokens | None = None
        if forward is not None:
            tokens = forward.tokens
            record.attempts = forward.attempts
            replica = forward.replica
            if replica is not None:
                record.engine = replica.engine.address
                record.variant = replica.variant
                record.model_digest = replica.digest
                if replica.model != record.model:
                    record.fallback_of, record.model = record.model, replica.model
            first_ns = self.first_ns or forward.first_byte_ns
            if first_ns is not None and record.latency_us is not None:
                record.latency_us.first = (first_ns - exchange.received_ns) // 1000
        if tokens is not None:
            record.tokens = records.TokenCounts(
                tokens.prompt, tokens.completion, tokens.prompt + tokens.completion
            )
        if self.guard is not None:
            self._add_verdicts(record, self.guard)
        if self.session is not None:
            record.classifiers = self.session.verdicts
        if self.keeper is None:
            self._commit(record, now, tokens, then)
        else:
            self.keeper.keep(record, lambda ref: self._kept(record, now, tokens, then, ref))

    def _kept(
        self,
        record: records.Decision,
        now: int,
        tokens: Tokens | None,
        then: Callable[[], None],
        ref: records.ContentRef | None,
    ) -> None:
        """The content is on disk; without it there is no answer."""
        record.content = ref or records.ContentRef("failed")
        if ref is None and record.reason == "ok":
            error = errors.content_unavailable()
            if not self._streaming:
                record.status = error.status
            record.response_bytes, then = (
                self._cut(error) if self._streaming else self._refusal(error)
            )
            record.decision, record.reason = "error", error.reason
        self._commit(record, now, tokens, then)

    def _commit(
        self,
        record: records.Decision,
        now: int,
        tokens: Tokens | None,
        then: Callable[[], None],
    ) -> None:
        gateway, identity, forward = self._gateway, self.identity, self.forward
        if self.ticket is not None:
            # Without the engine's own count, what was reserved counts as used.
            used = self.ticket.tokens if forward is not None else 0
            gateway.settle(
                self.ticket, used if tokens is None else tokens.prompt + tokens.completion
            )
        if self.trace is not None and gateway.tracer is not None:
            gateway.tracer.end(self.trace, record, self.exchange.received_ns, now)
        audit = gateway.audit
        if audit.strict or (identity is not None and identity.strict):
            answer = StrictAnswer(self, record, now, then)
            audit.append_strict(record, answer.complete, answer.withhold)
        else:
            self.count(record, now)
            audit.append(record, then)

    def withhold(self, record: records.Decision, now: int) -> None:
        """The record is not on disk in time: what it speaks of does not leave."""
        if record.reason != "client_closed":
            error = errors.audit_late()
            size, end = self._cut(error) if self._streaming else self._refusal(error)
            # The line is with the writer; from here on this is about what happened instead.
            status = record.status if self._streaming else error.status
            self._gateway.audit.append(records.withheld(record, status, error.reason))
            record.decision, record.reason = "error", error.reason
            record.status, record.response_bytes = status, size
            end()
        self.count(record, now)

    def _add_verdicts(self, record: records.Decision, guard: Guard) -> None:
        metrics = self._gateway.metrics
        for direction, verdict in guard.verdicts.items():
            record.guardrails[direction] = verdict.action
            metrics.verdicts.add(direction, verdict.action)
            for finding, count in verdict.findings.items():
                record.findings[f"{direction}.{finding}"] = count
                metrics.findings.add(direction, finding, amount=count)

    def count(self, record: records.Decision, now: int) -> None:
        """Add what became of the request to the metrics."""
        metrics, forward = self._gateway.metrics, self.forward
        endpoint, model = record.endpoint, record.model
        metrics.requests.add(endpoint, model, record.decision, str(record.status))
        metrics.reasons.add(record.decision, record.reason)
        if forward is None:
            return
        received = self.exchange.received_ns
        asked = forward.replica
        if asked is not None and (asked.counted or forward.left):
            self._count_variant(record, forward, asked, now)
        if record.decision == "deny":
            return
        metrics.total.observe((now - received) / 1e9, endpoint, model)
        if self.first_ns is not None:
            metrics.first.observe((self.first_ns - received) / 1e9, endpoint, model)
        tokens = forward.tokens
        if tokens is not None:
            metrics.tokens.add(model, "prompt", amount=tokens.prompt)
            metrics.tokens.add(model, "completion", amount=tokens.completion)

    def _count_variant(
        self, record: records.Decision, forward: Forward, asked: Replica, now: int
    ) -> None:
        """Add it to the figures by which a model and its variants are compared."""
        metrics, received = self._gateway.metrics, self.exchange.received_ns
        for left in forward.left:
            metrics.variant_failures.add(left.model, left.counted)
        model, variant = asked.model, asked.counted
        if not variant:
            # A fallback without variants answered for a model that has some.
            return
        metrics.variant_requests.add(model, variant, record.decision, str(record.status))
        if record.decision == "deny":
            return
        metrics.variant_total.observe((now - received) / 1e9, model, variant)
        if self.first_ns is not None:
            metrics.variant_first.observe((self.first_ns - received) / 1e9, model, variant)
        tokens = forward.tokens
        if tokens is not None:
            metrics.variant_tokens.add(model, variant, "prompt", amount=tokens.prompt)
            metrics.variant_tokens.add(model, variant, "completion", amount=tokens.completion)

    def _finished(self) -> None:
        self._recorded = True
        if self._in_work:
            self._in_work = False
            self._gateway.metrics.in_flight -= 1
