"""One request of a browser: what it brings, and its one answer with its record."""

from __future__ import annotations

import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Final, Literal
from urllib.parse import parse_qsl

from tresor_gateway.api import errors
from tresor_gateway.audit import record as records
from tresor_gateway.audit.uuid7 import uuid7
from tresor_gateway.audit.writer import AuditWriter
from tresor_gateway.http.exchange import Exchange, Headers
from tresor_gateway.identity.authenticator import Identity
from tresor_gateway.metrics.gateway import GatewayMetrics
from tresor_gateway.portal import cookies, texts

HTML: Final = b"text/html; charset=utf-8"
JSON: Final = b"application/json"
_PLAIN: Final = b"text/plain; charset=utf-8"
_FORM: Final = b"application/x-www-form-urlencoded"
_MAX_FIELDS: Final = 20

Verdict = Literal["allow", "deny", "error"]


class ProblemError(Exception):
    """An answer that is not the one asked for.

    ``reason`` is the audit word, ``page`` the key of the page's text.
    """

    def __init__(self, status: int, reason: str, page: str, *, sign_in: bool = False) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.page = page
        self.sign_in = sign_in


class Visit:
    """A request and what is known about who makes it."""

    def __init__(
        self, exchange: Exchange, endpoint: str, audit: AuditWriter, metrics: GatewayMetrics
    ) -> None:
        self.exchange = exchange
        self.endpoint = endpoint
        self.identity: Identity | None = None
        self.subject = ""
        self.auth = ""
        self._audit = audit
        self._metrics = metrics
        self._over = False
        self.set_cookies: list[cookies.Header] = []

    # --- what it brings ---------------------------------------------------------------------

    @property
    def language(self) -> str:
        """``de`` or ``en``."""
        return texts.choose(self.exchange.headers.get(b"accept-language"))

    @property
    def wants_stream(self) -> bool:
        """Whether our own script asks, and not a plain form."""
        return self.exchange.headers.get(b"accept", b"").startswith(b"text/event-stream")

    def cookie(self, name: str) -> str | None:
        """A cookie of ours."""
        return cookies.read(self.exchange.headers.get(b"cookie"), name)

    def query(self) -> dict[str, str]:
        """The parameters behind the path, each once.

        Raises:
            ProblemError: malformed, or one is there more than once.
        """
        return _fields(self.exchange.target.partition(b"?")[2])

    def form(self) -> dict[str, str]:
        """The fields of a posted form, each once.

        Raises:
            ProblemError: it is no form, malformed, or a field is there more than once.
        """
        kind = self.exchange.headers.get(b"content-type", b"").split(b";", 1)[0].strip().lower()
        if kind != _FORM:
            raise ProblemError(400, "bad_request", "request")
        return _fields(self.exchange.body)

    # --- its answer -----------------------------------------------------------------------

    def page(self, status: int, body: bytes, headers: Headers = (), reason: str = "ok") -> None:
        """Answer with a page."""
        self.answer(status, body, HTML, headers, reason)

    def redirect(self, target: str, reason: str = "ok") -> None:
        """Send the browser on, with GET."""
        self.answer(303, b"", HTML, ((b"Location", target.encode("ascii")),), reason)

    def answer(
        self, status: int, body: bytes, kind: bytes, headers: Headers = (), reason: str = "ok"
    ) -> None:
        """Record the decision, then answer."""
        exchange, every = self.exchange, (*headers, *self.set_cookies)
        self._record(status, reason, len(body), lambda: _send(exchange, status, body, kind, every))

    def left_to_worker(self) -> None:
        """A worker has the record of this request."""
        self._over = True

    def passed_on(self, status: int, body: bytes, kind: bytes, headers: Headers = ()) -> None:
        """Answer with what a worker has decided and recorded."""
        self.left_to_worker()
        _send(self.exchange, status, body, kind, (*headers, *self.set_cookies))

    def without_record(self, status: int, body: bytes, kind: bytes, headers: Headers = ()) -> None:
        """Answer while nothing can be recorded; the writer counts it."""
        self._over = True
        self._audit.refuse()
        _send(self.exchange, status, body, kind, headers)

    def left(self) -> None:
        """The browser went away."""
        self._record(499, "client_closed", 0, lambda: None)

    def _record(self, status: int, reason: str, size: int, then: Callable[[], None]) -> None:
        if self._over:
            return
        self._over = True
        decision: Verdict = "allow"
        if reason not in ("ok", "client_closed"):
            decision = "deny" if status < HTTPStatus.INTERNAL_SERVER_ERROR else "error"
        exchange, identity = self.exchange, self.identity
        record = records.Decision(
            id=uuid7(),
            time=records.timestamp(time.time()),
            request_id=exchange.request_id.decode(),
            decision=decision,
            reason=reason,
            status=status,
            endpoint=self.endpoint,
            subject=self.subject,
            auth=self.auth,
            latency_us=records.Latency(total=(time.monotonic_ns() - exchange.received_ns) // 1000),
            request_bytes=len(exchange.body),
            response_bytes=size,
        )
        if identity is not None:
            record.subject = identity.subject
            record.tenant = identity.tenant
            record.client = identity.client
            record.token = identity.token
            record.groups = list(identity.grant.groups)
        self._metrics.requests.add(self.endpoint, "", decision, str(status))
        self._metrics.reasons.add(decision, reason)
        if self._audit.strict:
            self._audit.append_strict(record, then, lambda: self._withhold(record))
        else:
            self._audit.append(record, then)

    def _withhold(self, record: records.Decision) -> None:
        """The record is not on disk in time: what it speaks of does not leave."""
        error = errors.audit_late()
        self._audit.append(records.withheld(record, error.status, error.reason))
        _send(self.exchange, error.status, error.message.encode(), _PLAIN, error.headers)


def _send(exchange: Exchange, status: int, body: bytes, kind: bytes, headers: Headers) -> None:
    exchange.respond(status, body, headers, kind)


def _fields(data: bytes) -> dict[str, str]:
    try:
        pairs = parse_qsl(
            data.decode("ascii"),
            keep_blank_values=True,
            strict_parsing=bool(data),
            errors="strict",
            max_num_fields=_MAX_FIELDS,
        )
    except ValueError as error:
        raise ProblemError(400, "bad_request", "request") from error
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ProblemError(400, "bad_request", "request")
    return fields
