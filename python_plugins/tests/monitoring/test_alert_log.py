"""The receiver that writes alerts to the journal: the real program; a socket is its journal."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from python_plugins.tests.monitoring.conftest import ROOT

PROGRAM = ROOT / "roles" / "alertmanager" / "files" / "tresor-alert-log"
ALERT = {
    "status": "firing",
    "labels": {"alertname": "DiskFull", "severity": "critical", "host": "gpu1"},
    "annotations": {"summary": "two\nlines"},
    "startsAt": "2026-01-01T00:00:00Z",
    "endsAt": "0001-01-01T00:00:00Z",
    "fingerprint": "ab",
}


class Receiver:
    """A running receiver and what its journal got."""

    def __init__(self, port: int, journal: socket.socket, path: Path) -> None:
        self.port, self.journal, self.path = port, journal, path

    def post(self, body: bytes, path: str = "/alerts", **headers: str) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("POST", path, body, headers)
            return connection.getresponse().status
        finally:
            connection.close()

    def entries(self) -> list[dict[str, str]]:
        """Return what arrived, field by field."""
        found = []
        self.journal.setblocking(False)
        while True:
            try:
                text = self.journal.recv(1 << 20).decode()
            except BlockingIOError:
                return found
            found.append(dict(line.split("=", 1) for line in text.rstrip("\n").split("\n")))


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    journal_path, ready_path = tmp_path / "journal", tmp_path / "ready"
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready,
        socket.socket() as probe,
    ):
        journal.bind(str(journal_path))
        ready.bind(str(ready_path))
        ready.settimeout(20)
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        with subprocess.Popen(
            [sys.executable, "-I", PROGRAM, "--port", str(port), "--journal", journal_path],
            env={"NOTIFY_SOCKET": str(ready_path)},
            stderr=subprocess.DEVNULL,
        ) as process:
            try:
                assert ready.recv(100) == b"READY=1"
                yield Receiver(port, journal, journal_path)
            finally:
                process.kill()


def message(*alerts: Any) -> bytes:
    return json.dumps({"version": "4", "alerts": alerts}).encode()


def test_each_alert_is_one_entry_with_its_priority(receiver: Receiver) -> None:
    over = {**ALERT, "status": "resolved", "endsAt": "2026-01-01T01:00:00Z"}
    assert receiver.post(message(ALERT, over)) == 200
    first, second = receiver.entries()
    assert (first["SYSLOG_IDENTIFIER"], first["PRIORITY"], second["PRIORITY"]) == (
        "tresor-alert",
        "2",
        "5",
    )
    record = json.loads(first["MESSAGE"])
    assert (record["alert"], record["status"], record["ends"]) == ("DiskFull", "firing", None)
    assert record["annotations"] == {"summary": "two\nlines"}
    assert json.loads(second["MESSAGE"])["ends"] == "2026-01-01T01:00:00Z"


def test_a_label_cannot_add_a_field_to_the_journal(receiver: Receiver) -> None:
    alert = {**ALERT, "labels": {"alertname": "x\nPRIORITY=0\n_UID=0"}}
    assert receiver.post(message(alert)) == 200
    (entry,) = receiver.entries()
    assert set(entry) == {"PRIORITY", "SYSLOG_IDENTIFIER", "MESSAGE"}
    assert entry["PRIORITY"] == "5"


def test_long_texts_and_many_labels_are_cut(receiver: Receiver) -> None:
    labels = {f"l{n:03}": "x" * 9000 for n in range(200)}
    assert receiver.post(message({**ALERT, "labels": labels})) == 200
    (entry,) = receiver.entries()
    kept = json.loads(entry["MESSAGE"])["labels"]
    assert len(kept) == 64
    assert max(map(len, kept.values())) == 2048


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", 400),
        (b"no json", 400),
        (b"[]", 400),
        (b'{"alerts": 1}', 400),
        (b'{"alerts": [1]}', 400),
        (b"[" * 100_000, 400),
        (message(*[ALERT] * 501), 400),
        (b"x" * (4 * 1024 * 1024 + 1), 413),
    ],
    ids=["empty", "text", "list", "number", "numbers", "deep", "too many", "too large"],
)
def test_anything_else_is_refused_and_leaves_no_entry(
    receiver: Receiver, body: bytes, expected: int
) -> None:
    try:
        assert receiver.post(body) == expected
    except (BrokenPipeError, ConnectionResetError):
        assert expected == 413, "only a body that is not read may break the connection"
    assert receiver.entries() == []
    assert receiver.post(message(ALERT)) == 200, "it still serves"


def test_other_paths_and_methods_do_not_exist(receiver: Receiver) -> None:
    assert receiver.post(message(ALERT), path="/") == 404
    connection = http.client.HTTPConnection("127.0.0.1", receiver.port, timeout=10)
    connection.request("GET", "/alerts")
    assert connection.getresponse().status == 501
    connection.close()
    assert receiver.entries() == []


def test_a_journal_that_takes_nothing_makes_alertmanager_try_again(receiver: Receiver) -> None:
    receiver.path.unlink()
    assert receiver.post(message(ALERT)) == 503
