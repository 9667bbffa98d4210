"""The client, the TLS probe and the engine check against real TLS servers on loopback."""

from __future__ import annotations

import os
import pwd
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tresor.api_check.client import (
    Endpoint,
    Request,
    RequestFailed,
    TlsRefused,
    call,
    client_context,
)
from tresor.api_check.engines import check_engines
from tresor.api_check.tls import handshake
from tresor.probe.users import Answer

from .conftest import Authority

NAME = "llm.site.example"
ME = pwd.getpwuid(os.geteuid()).pw_name


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        if self.path == "/stream":
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            for text in ("one", "two", "[DONE]"):
                self.wfile.write(f"data: {text}\n\n".encode())
                self.wfile.flush()
                time.sleep(0.1)
            self.close_connection = True
            return
        body = self.path.encode()
        if self.path == "/metrics":
            body = b'vllm:request_success_total{x="y"} 5\n'
        self.send_response(200)
        self.send_header("X-Request-Id", "r1")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_args: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_args: object) -> None:
        pass  # refused handshakes are what the tests are about


@contextmanager
def serve(authority: Authority, *, mutual: bool = False) -> Iterator[Endpoint]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue(NAME))
    if mutual:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(authority.ca_file)
    server = Server(("127.0.0.1", 0), Handler, bind_and_activate=True)
    # The handshake belongs to the thread of the connection, not to the accepting one.
    server.socket = context.wrap_socket(
        server.socket, server_side=True, do_handshake_on_connect=False
    )
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield Endpoint(NAME, "127.0.0.1", server.server_address[1])
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_the_name_is_verified_and_the_path_goes_out_unchanged(authority: Authority) -> None:
    context = client_context(str(authority.ca_file))
    with serve(authority) as endpoint:
        answer = call(endpoint, Request("GET", "/v1/%2e%2e//metrics"), context, 5)
        assert (answer.status, answer.body) == (200, b"/v1/%2e%2e//metrics")
        assert answer.headers["x-request-id"] == "r1"
        wrong = Endpoint("other.site.example", "127.0.0.1", endpoint.port)
        with pytest.raises(RequestFailed, match="certificate") as caught:
            call(wrong, Request("GET", "/"), context, 5)
        assert not isinstance(caught.value, TlsRefused)


def test_events_carry_the_time_of_their_arrival(authority: Authority) -> None:
    with serve(authority) as endpoint:
        request = Request("GET", "/stream", stream=True)
        answer = call(endpoint, request, client_context(str(authority.ca_file)), 5)
    assert [data for _, data in answer.events] == ["one", "two", "[DONE]"]
    assert answer.events[1][0] - answer.events[0][0] > 0.02


def test_a_closed_port_and_a_missing_ca_are_named(authority: Authority) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    with pytest.raises(RequestFailed, match="ConnectionRefusedError"):
        call(
            Endpoint(NAME, "127.0.0.1", port),
            Request("GET", "/"),
            client_context(str(authority.ca_file)),
            5,
        )
    with pytest.raises(RequestFailed, match=r"/nowhere/ca.crt cannot be used"):
        client_context("/nowhere/ca.crt")


def test_versions_that_the_server_refuses_are_refused_by_the_server(
    authority: Authority,
) -> None:
    ca_file = str(authority.ca_file)
    with serve(authority) as endpoint:
        assert handshake(endpoint, ssl.TLSVersion.TLSv1_3, ca_file, 5).agreed == "TLSv1.3"
        old = handshake(endpoint, ssl.TLSVersion.TLSv1_1, ca_file, 5)
    assert (old.agreed, old.refused) == (None, True), old
    assert "ALERT" in old.detail
    nobody = handshake(endpoint, ssl.TLSVersion.TLSv1_1, ca_file, 5)
    assert (nobody.agreed, nobody.refused) == (None, False), "no server is no refusal"


def engine_checks(
    authority: Authority, *, mutual: bool
) -> tuple[dict[str, bool], dict[str, float]]:
    certified = client_context(str(authority.ca_file))
    certified.load_cert_chain(*authority.issue("gateway1.site.example"))
    with serve(authority, mutual=mutual) as endpoint:
        checks, served = check_engines(
            "gateway1",
            ME,
            {"chat-gpu1": endpoint},
            anonymous=client_context(str(authority.ca_file)),
            certified=certified,
            timeout=5,
            run_users=run_here,
        )
    return {check.id.rpartition(".")[2]: check.ok for check in checks}, served


def run_here(work: Mapping[str, Callable[[], Any]], _timeout: float) -> dict[str, Answer]:
    """Stay in this process: the test's server runs in threads, which a fork would not take."""
    return {user: Answer(function(), None) for user, function in work.items()}


def test_an_engine_that_wants_certificates_passes(authority: Authority) -> None:
    checks, served = engine_checks(authority, mutual=True)
    assert checks == {"anonymous": True, "certified": True}
    assert served == {"chat-gpu1": 5.0}


def test_an_engine_open_to_everyone_fails(authority: Authority) -> None:
    checks, _ = engine_checks(authority, mutual=False)
    assert checks == {"anonymous": False, "certified": True}


def test_an_engine_that_is_down_fails_both(authority: Authority) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        endpoint = Endpoint(NAME, "127.0.0.1", gone.getsockname()[1])
    context = client_context(str(authority.ca_file))
    checks, served = check_engines(
        "gateway1", ME, {"a": endpoint}, anonymous=context, certified=context, timeout=2
    )
    assert [check.ok for check in checks] == [False, False]
    assert served == {}


def test_a_missing_service_user_fails_every_engine(authority: Authority) -> None:
    context = client_context(str(authority.ca_file))
    checks, _ = check_engines(
        "gateway1",
        "no-such-user",
        {"a": Endpoint(NAME, "127.0.0.1", 1)},
        anonymous=context,
        certified=context,
        timeout=2,
    )
    assert [(c.ok, c.observed) for c in checks] == [
        (False, "not run: there is no user no-such-user on this host")
    ]
