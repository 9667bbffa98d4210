"""Engines that share a GPU start one after the other: real processes, real locks, real TLS."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[3] / "roles" / "vllm" / "files" / "gpu_turn.py"
# Loads until it may go on, then answers over mutual TLS as vLLM does; says when.
ENGINE = """
import http.server, json, os, pathlib, ssl, sys, time
name, port, held, log = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "held", sys.argv[4]
def say(what):
    with open(log, "a") as file:
        file.write(f"{what} {name} {os.getpid()}\\n")
say("begins")
while held and not os.path.exists(f"{log}.{name}"):
    time.sleep(0.05)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        if self.path == "/metrics":
            text = "# HELP\\nvllm:num_requests_running{engine=\\"0\\"} 0\\n"
            self.wfile.write(text.encode() if "empty" not in name else b"")
    def log_message(self, *args): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
folder = pathlib.Path(os.environ["CREDENTIALS_DIRECTORY"])
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(folder / "tls.crt", folder / "tls.key")
context.load_verify_locations(folder / "ca.crt")
context.verify_mode = ssl.CERT_REQUIRED
server.socket = context.wrap_socket(server.socket, server_side=True)
say("answers")
server.serve_forever()
"""


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.fixture(scope="module")
def credentials(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a certificate that is its own authority, for both sides."""
    folder = tmp_path_factory.mktemp("credentials")
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-days", "2", "-subj", "/CN=gpu1.site.example"),
            *("-addext", "subjectAltName=DNS:gpu1.site.example"),
            *("-keyout", str(folder / "tls.key"), "-out", str(folder / "tls.crt")),
        ],
        check=True,
        capture_output=True,
    )
    (folder / "ca.crt").write_bytes((folder / "tls.crt").read_bytes())
    return folder


class Host:
    """Starts engines as systemd does: each in a group that is killed as a whole."""

    def __init__(self, folder: Path, credentials: Path) -> None:
        self.folder, self.credentials = folder, credentials
        self.log = folder / "log"
        self.log.touch()
        (folder / "turns").mkdir()
        (folder / "engine.py").write_text(ENGINE)
        self.running: list[subprocess.Popen[bytes]] = []

    def start(
        self, name: str, gpus: str = "0", rank: int = 0, held: bool = False, wait: float = 300.0
    ) -> subprocess.Popen[bytes]:
        settings = self.folder / f"{name}.turn.json"
        port = free_port()
        value: dict[str, Any] = {"instance": name, "gpus": gpus.split(","), "rank": rank}
        value |= {"wait": wait, "settle": 0, "folder": str(self.folder / "turns")}
        value |= {"server_name": "gpu1.site.example", "address": "127.0.0.1", "port": port}
        settings.write_text(json.dumps(value))
        engine = [sys.executable, str(self.folder / "engine.py"), name, str(port)]
        engine.append("held" if held else "free")
        with (self.folder / f"{name}.err").open("wb") as errors:
            process = subprocess.Popen(
                [sys.executable, "-I", SCRIPT, "run", settings, "--", *engine, self.log],
                env={"CREDENTIALS_DIRECTORY": str(self.credentials)},
                stderr=errors,
                start_new_session=True,
            )
        self.running.append(process)
        return process

    def go(self, name: str) -> None:
        """Let an engine finish loading."""
        Path(f"{self.log}.{name}").touch()

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        """End a unit: the main process and everything in its group."""
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def said(self) -> list[str]:
        return [" ".join(line.split()[:2]) for line in self.log.read_text().splitlines()]

    def wait_for(self, *lines: str, seconds: float = 120.0) -> list[str]:
        deadline = time.monotonic() + seconds
        while not set(lines) <= set(self.said()):
            assert time.monotonic() < deadline, self.log.read_text() + self.errors()
            time.sleep(0.05)
        return self.said()

    def errors(self) -> str:
        return "".join(path.read_text() for path in sorted(self.folder.glob("*.err")))

    def until(self, what: str, seconds: float = 120.0) -> None:
        deadline = time.monotonic() + seconds
        while what not in self.errors():
            assert time.monotonic() < deadline, self.errors()
            time.sleep(0.05)


@pytest.fixture
def host(tmp_path: Path, credentials: Path) -> Iterator[Host]:
    one = Host(tmp_path, credentials)
    yield one
    for process in one.running:
        if process.poll() is None:
            one.kill(process)


def test_the_next_begins_when_the_one_before_answers(host: Host) -> None:
    first = host.start("one", held=True)
    host.wait_for("begins one")
    host.start("two")
    host.until("two: waits for its turn: one starts on GPU 0")
    host.go("one")
    said = host.wait_for("answers two")
    assert said == ["begins one", "answers one", "begins two", "answers two"]
    assert first.poll() is None


def test_engines_on_other_gpus_do_not_wait(host: Host) -> None:
    host.start("one", gpus="0,1", held=True)
    host.start("two", gpus="2")
    assert "answers one" not in host.wait_for("answers two")


def test_overlap_in_one_gpu_is_enough(host: Host) -> None:
    host.start("one", gpus="0,1", held=True)
    host.wait_for("begins one")
    host.start("two", gpus="1,2")
    host.until("two: waits")
    host.go("one")
    said = host.wait_for("begins two")
    assert said.index("answers one") < said.index("begins two")


def test_an_engine_that_dies_while_it_loads_gives_its_turn_back(host: Host) -> None:
    first = host.start("one", held=True)
    host.wait_for("begins one")
    host.start("two")
    host.until("two: waits")
    host.kill(first)
    assert "answers one" not in host.wait_for("answers two")
    assert "one ended before it answered" in host.errors()


def test_death_of_the_main_process_alone_ends_the_turn(host: Host) -> None:
    first = host.start("one", held=True)
    host.wait_for("begins one")
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    host.start("two")
    host.wait_for("answers two")


def test_what_a_killed_host_left_behind_stops_nobody(host: Host) -> None:
    folder = host.folder / "turns"
    (folder / "gpu-0.lock").write_text("gone")
    (folder / "waiting-0000-gone").write_text('["0"]')
    host.start("one", rank=3)
    host.wait_for("answers one")


def test_among_the_waiting_the_larger_goes_first(host: Host) -> None:
    host.start("zero", held=True)
    host.wait_for("begins zero")
    host.start("small", rank=2)
    host.until("small: waits")
    host.start("large", rank=1, held=True)
    host.until("large: waits")
    host.go("zero")
    host.wait_for("begins large")
    host.go("large")
    said = host.wait_for("answers small")
    assert said.index("answers large") < said.index("begins small")


def test_healthy_without_a_loaded_model_is_not_started(host: Host) -> None:
    host.start("empty")
    host.wait_for("answers empty")
    late = host.start("late", wait=2.5)
    assert late.wait(120) == 75
    assert "begins late" not in host.said()


def test_waiting_ends_with_a_message(host: Host) -> None:
    host.start("one", held=True)
    host.wait_for("begins one")
    late = host.start("late", wait=0.6)
    assert late.wait(120) == 75
    assert "late: no turn within 1 s: one starts on GPU 0. Look why" in host.errors()


def test_engine_keeps_no_lock_and_no_child(host: Host) -> None:
    process = host.start("one")
    host.wait_for("answers one")
    host.until("the next engine may start")
    open_files = [str(path.readlink()) for path in Path(f"/proc/{process.pid}/fd").iterdir()]
    assert not [name for name in open_files if "turns" in name]
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
    assert children == ""


def test_looking_first_takes_nothing(host: Host) -> None:
    host.start("one", held=True)
    host.wait_for("begins one")
    settings = host.folder / "one.turn.json"
    value = json.loads(settings.read_text()) | {"instance": "two", "rank": 1}
    (host.folder / "two.turn.json").write_text(json.dumps(value))
    with (host.folder / "two.err").open("wb") as errors:
        command = [sys.executable, "-I", str(SCRIPT), "wait", str(host.folder / "two.turn.json")]
        looking = subprocess.Popen(command, stderr=errors)
    host.until("two: waits")
    host.go("one")
    assert looking.wait(120) == 0
    assert "answers one" in host.said()
    assert subprocess.run(command, check=False).returncode == 0
