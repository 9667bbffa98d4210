"""The real program: answers, failures, signals."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.core import GaugeMetricFamily, Metric

from services.host_exporter.tests.support import parsed
from tresor_exporter.registry import HostMetrics
from tresor_exporter.server import MetricsServer

SOURCE = Path(__file__).parents[1] / "src"


class Good:
    name = "good"

    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily("tresor_good", "works", value=1)


class Broken:
    name = "broken"
    error: Exception | None = RuntimeError("out of order")

    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily("tresor_known", "still known", value=2)
        if self.error is not None:
            raise self.error


def ask(port: int, path: str, method: str = "GET") -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


@pytest.fixture
def broken() -> Broken:
    return Broken()


@pytest.fixture
def port(broken: Broken) -> Iterator[int]:
    server = MetricsServer("127.0.0.1", 0, HostMetrics([broken, Good()]).registry())
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_collector_that_fails_does_not_stop_the_others(port: int) -> None:
    status, text = ask(port, "/metrics")
    found = parsed(text)
    assert status == 200
    assert found["tresor_good"] == 1
    assert found["tresor_known"] == 2
    assert found['tresor_exporter_collector_success{collector="good"}'] == 1
    assert found['tresor_exporter_collector_success{collector="broken"}'] == 0
    assert found["process_resident_memory_bytes"] > 0


def test_a_failure_is_said_once_and_its_end_too(
    port: int, broken: Broken, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    for _ in range(3):
        ask(port, "/metrics")
    broken.error = None
    ask(port, "/metrics")
    ask(port, "/metrics")
    assert [record.message for record in caplog.records] == [
        "collector broken: out of order",
        "collector broken: works again",
    ]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/healthz", 200),
        ("GET", "/", 404),
        ("GET", "/metrics/", 404),
        ("GET", "/metrics?name[]=x", 404),
        ("POST", "/metrics", 501),
        ("HEAD", "/metrics", 501),
    ],
)
def test_only_two_paths_exist(port: int, method: str, path: str, status: int) -> None:
    assert ask(port, path, method)[0] == status


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number = free.getsockname()[1]
    log = tmp_path / "tresor.json"
    log.touch()
    path = tmp_path / "exporter.json"
    content = {
        "listen": f"127.0.0.1:{number}",
        "state_directory": str(tmp_path),
        "collectors": {"nginx": {"log": str(log), "endpoints": {"/v1/models": "models"}}},
    }
    path.write_text(json.dumps(content))
    return path


class Program:
    """``python -m tresor_exporter`` as its unit runs it."""

    def __init__(self, path: Path) -> None:
        command = [sys.executable, "-m", "tresor_exporter", "--config", str(path)]
        environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
        self.process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
        assert self.process.stderr is not None
        self.first = self.process.stderr.readline()
        self.port = int(json.loads(path.read_text())["listen"].partition(":")[2])

    def requests(self) -> float | None:
        name = 'tresor_nginx_requests_total{endpoint="models",status="200"}'
        return parsed(ask(self.port, "/metrics")[1]).get(name)

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        self.process.communicate(timeout=20)
        return self.process.returncode


def test_a_killed_process_loses_and_doubles_nothing(settings: Path) -> None:
    log = settings.with_name("tresor.json")
    line = '{"path":"/v1/models","status":200,"seconds":0.1}\n'
    first = Program(settings)
    assert "listening on 127.0.0.1" in first.first
    log.write_text(line * 3)  # before the first scrape
    assert first.requests() == 3
    assert first.end(signal.SIGKILL) == -signal.SIGKILL
    with log.open("a") as stream:
        stream.write(line * 2)
    second = Program(settings)
    assert second.requests() == 5
    assert second.end(signal.SIGTERM) == 0


def test_a_taken_address_ends_the_start_with_78(settings: Path) -> None:
    content = json.loads(settings.read_text())
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        content["listen"] = f"127.0.0.1:{taken.getsockname()[1]}"
        settings.write_text(json.dumps(content))
        program = Program(settings)
        assert program.process.wait(20) == 78
        program.process.communicate()
    assert "free it or change listen" in program.first
