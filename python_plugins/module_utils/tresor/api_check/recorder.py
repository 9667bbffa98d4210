"""Send requests, turn them into checks, and remember the request ids for the audit."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..evidence.check import Check, not_run
from . import judge
from .client import Endpoint, Request, RequestFailed, Response, call

Send = Callable[[Endpoint, Request, ssl.SSLContext, float], Response]


@dataclass(frozen=True)
class Sent:
    """A request that was answered, as the audit check needs it."""

    check: str
    request_id: str | None
    method: str
    path: str
    status: int

    def as_dict(self) -> dict[str, Any]:
        """Return the form modules exchange."""
        return {
            "check": self.check,
            "request_id": self.request_id,
            "method": self.method,
            "path": self.path,
            "status": self.status,
        }


@dataclass
class Recorder:
    """Collects checks and sent requests; safe to use from several threads."""

    source: str
    context: ssl.SSLContext
    timeout: float
    transport: Send = call
    checks: list[Check] = field(default_factory=list)
    sent: list[Sent] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def ask(
        self,
        check_id: str,
        what: str,
        endpoint: Endpoint,
        request: Request,
        *,
        expected: str,
        verdict: Callable[[Response], judge.Verdict],
    ) -> Response | None:
        """Send a request to the API, add its check, and return the answer if there was one."""
        target = f"{request.method} https://{endpoint.name}{request.path}"
        try:
            response = self.transport(endpoint, request, self.context, self.timeout)
        except RequestFailed as error:
            self.missing(check_id, what, str(error), target)
            return None
        ok, observed = verdict(response)
        self.add(
            check_id,
            what,
            target,
            expected=expected,
            verdict=(ok, observed),
            seconds=response.seconds,
        )
        with self._lock:
            request_id = response.headers.get("x-request-id")
            self.sent.append(
                Sent(check_id, request_id, request.method, request.path, response.status)
            )
        return response

    def add(
        self,
        check_id: str,
        what: str,
        target: str,
        *,
        expected: str,
        verdict: judge.Verdict,
        seconds: float = 0.0,
    ) -> None:
        """Add a check that was judged elsewhere."""
        ok, observed = verdict
        check = Check(check_id, what, self.source, target, expected, observed, ok, seconds)
        with self._lock:
            self.checks.append(check)

    def missing(self, check_id: str, what: str, reason: str, target: str = "-") -> None:
        """Add the failed check of something that could not be tried."""
        with self._lock:
            self.checks.append(not_run(check_id, what, reason, source=self.source, target=target))


def json_request(
    method: str, path: str, token: str | None, body: bytes | None = None, *, stream: bool = False
) -> Request:
    """Return a request to the API, with or without a bearer token."""
    headers: Mapping[str, str] = {"Authorization": f"Bearer {token}"} if token is not None else {}
    return Request(method, path, headers, body, stream)
