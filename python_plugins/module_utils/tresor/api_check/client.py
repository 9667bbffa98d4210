"""A small HTTPS client that connects where the plan says, not where a resolver says."""

from __future__ import annotations

import http
import http.client
import json
import socket
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

_BODY_LIMIT = 8 * 1024 * 1024
_LINE_LIMIT = 1024 * 1024


class RequestFailed(RuntimeError):  # noqa: N818
    """No HTTP answer came back: connection, TLS or protocol failed."""


class TlsRefused(RequestFailed):
    """The server ended the TLS handshake, or the session right after it."""


class TimedOut(RequestFailed):
    """Nothing came within the time limit: no connection, no handshake, or no answer."""


@dataclass(frozen=True)
class Endpoint:
    """A server: the name to expect in its certificate, and the address to connect to."""

    name: str
    address: str
    port: int

    def __str__(self) -> str:
        """Return the endpoint as one reads it."""
        return f"https://{self.name}:{self.port} ({self.address})"


@dataclass(frozen=True)
class Request:
    """What to ask; ``path`` goes out byte for byte."""

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    stream: bool = False


@dataclass(frozen=True)
class Response:
    """What came back; ``events`` holds (seconds since the request, data) of a stream."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    seconds: float
    events: tuple[tuple[float, str], ...] = ()

    def json(self) -> object:
        """Return the body as JSON, None if it is none."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None


class _Connection(http.client.HTTPSConnection):
    """Connects to a given address and verifies the name."""

    def __init__(self, endpoint: Endpoint, context: ssl.SSLContext, timeout: float) -> None:
        super().__init__(endpoint.name, endpoint.port, context=context, timeout=timeout)
        self._endpoint = endpoint
        self._tls = context

    def connect(self) -> None:
        plain = socket.create_connection(
            (self._endpoint.address, self._endpoint.port), self.timeout
        )
        try:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.sock = self._tls.wrap_socket(plain, server_hostname=self._endpoint.name)
        except BaseException:
            plain.close()
            raise


def call(endpoint: Endpoint, request: Request, context: ssl.SSLContext, timeout: float) -> Response:
    """Send one request on a connection of its own.

    Raises:
        TlsRefused: the server refused the TLS session.
        TimedOut: the time limit passed.
        RequestFailed: no answer for another reason.
    """
    connection = _Connection(endpoint, context, timeout)
    started = time.monotonic()
    try:
        connection.putrequest(request.method, request.path, skip_accept_encoding=True)
        headers = dict(request.headers)
        if request.body is not None:
            headers.setdefault("Content-Type", "application/json")
            headers["Content-Length"] = str(len(request.body))
        headers["Connection"] = "close"
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders(request.body)
        answer = connection.getresponse()
        events: tuple[tuple[float, str], ...] = ()
        if request.stream and answer.status == http.HTTPStatus.OK:
            events = _events(answer, started)
            body = b""
        else:
            body = answer.read(_BODY_LIMIT)
        found = {name.lower(): value for name, value in answer.getheaders()}
        return Response(answer.status, found, body, time.monotonic() - started, events)
    except ssl.SSLCertVerificationError as error:
        raise RequestFailed(f"the certificate of {endpoint} is not valid: {error}") from None
    except (ssl.SSLError, ConnectionResetError, BrokenPipeError) as error:
        raise TlsRefused(f"{endpoint} ended the session: {error}") from None
    except TimeoutError as error:
        raise TimedOut(f"{endpoint}: {type(error).__name__}: {error}") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise RequestFailed(f"{endpoint}: {type(error).__name__}: {error}") from None
    finally:
        connection.close()


def _events(answer: http.client.HTTPResponse, started: float) -> tuple[tuple[float, str], ...]:
    """Read server-sent events and note when each arrived."""
    events: list[tuple[float, str]] = []
    while line := answer.readline(_LINE_LIMIT):
        if line.startswith(b"data:"):
            data = line[5:].strip().decode("utf-8", "replace")
            events.append((time.monotonic() - started, data))
    return tuple(events)


def client_context(ca_file: str) -> ssl.SSLContext:
    """Return a context that trusts that CA only.

    Raises:
        RequestFailed: the CA file cannot be read.
    """
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise RequestFailed(f"the CA file {ca_file} cannot be used: {error}") from None
