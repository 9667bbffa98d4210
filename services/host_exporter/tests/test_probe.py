"""The API must refuse a request without a token, by its name and in its own words."""

from __future__ import annotations

import http.server
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.host_exporter.tests.support import failing_scrape, scrape
from services.host_exporter.tests.tls import server_files
from tresor_exporter.collectors.probe import Outcome, ProbeCollector, ask, judge
from tresor_exporter.schema import Probe

ERROR = b'{"error": {"message": "no", "type": "authentication_error", "param": null}}'


class Api:
    """A TLS server on loopback with one answer."""

    def __init__(self, folder: Path, name: str) -> None:
        self.status, self.body = 401, ERROR
        self.ca, chain, key = server_files(folder, name)
        api = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(api.status)
                self.send_header("Content-Length", str(len(api.body)))
                self.end_headers()
                self.wfile.write(api.body)

            def log_message(self, *_: object) -> None:
                """Keep the test's output clean."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(chain, key)
        self._server.socket = context.wrap_socket(
            self._server.socket, server_side=True, do_handshake_on_connect=False
        )
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def probe(self, host: str = "localhost") -> Probe:
        return Probe(host, self._server.server_address[1], "/v1/models", self.ca, 30, 5)

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    server = Api(tmp_path, "localhost")
    yield server
    server.close()


def test_a_refusal_in_the_api_s_words_is_success(api: Api) -> None:
    outcome = ask(api.probe())
    assert outcome.problem is None
    assert 0 < outcome.seconds < 5


def test_a_certificate_for_another_name_is_no_success(tmp_path: Path) -> None:
    api = Api(tmp_path, "other.example")
    try:
        assert "CERTIFICATE_VERIFY_FAILED" in (ask(api.probe()).problem or "")
    finally:
        api.close()


def test_an_api_that_lets_everyone_in_is_no_success(api: Api) -> None:
    api.status = 200
    assert ask(api.probe()).problem == "status 200, expected 401"


@pytest.mark.parametrize("body", [b"", b"[]", b'{"error": "no"}', b'{"error": {"message": 1}}'])
def test_another_shape_is_no_success(body: bytes) -> None:
    assert judge(401, body) == "the body is not an error of the API"


def test_a_port_that_nobody_listens_on_is_no_success(api: Api, tmp_path: Path) -> None:
    config = Probe("localhost", 1, "/v1/models", api.ca, 30, 5)
    assert "ConnectionRefusedError" in (ask(config).problem or "")


def test_a_missing_authority_is_no_success(tmp_path: Path) -> None:
    config = Probe("localhost", 1, "/v1/models", tmp_path / "none", 30, 5)
    assert "FileNotFoundError" in (ask(config).problem or "")


def test_a_scrape_shows_the_newest_outcome(tmp_path: Path) -> None:
    outcomes = [Outcome(0.25, None), Outcome(0.5, "status 502, expected 401")]
    again, done = threading.Event(), threading.Event()

    def request(_: Probe) -> Outcome:
        if len(outcomes) == 1:
            again.wait()
        outcome = outcomes.pop(0) if outcomes else Outcome(0.5, "status 502, expected 401")
        if not outcomes:
            done.set()
        return outcome

    collector = ProbeCollector(Probe("api", 443, "/", tmp_path, 0.2, 10), request)
    collector.start()
    assert scrape(collector) == {
        "tresor_api_probe_success": 1,
        "tresor_api_probe_duration_seconds": 0.25,
    }
    again.set()
    assert done.wait(10)
    while scrape(collector)["tresor_api_probe_duration_seconds"] != 0.5:
        pass
    assert scrape(collector)["tresor_api_probe_success"] == 0
    collector.stop()


def test_before_the_first_outcome_the_collector_fails(tmp_path: Path) -> None:
    collector = ProbeCollector(Probe("api", 443, "/", tmp_path, 1, 0.1))
    found, problem = failing_scrape(collector)
    assert found == {}
    assert "not asked yet" in problem


def test_a_thread_that_ended_shows(tmp_path: Path) -> None:
    collector = ProbeCollector(
        Probe("api", 443, "/", tmp_path, 0.1, 0.1), lambda _: Outcome(0.1, None)
    )
    collector.start()
    scrape(collector)
    collector.stop()
    collector._thread.join(5)
    _, problem = failing_scrape(collector)
    assert "restart the exporter" in problem
