"""Parts of one engine on several hosts start together, end together, and let in nobody else."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[3] / "roles" / "vllm" / "files" / "engine_nodes.py"
NAMES = ("gpu1.site.example", "gpu2.site.example", "gpu3.site.example")
ADDRESSES = ("127.0.0.1", "127.0.0.2", "127.0.0.3")
WITHIN = 10.0
ENGINE = """
trap 'sleep 0.2; echo drained > {folder}/drained; exit 0' TERM
echo $$ > {folder}/engine
while :; do sleep 0.05; done
"""


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of certificates of one CA by name: the hosts' and a stranger's."""
    folder = tmp_path_factory.mktemp("ca")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=CA")
    for name in (*NAMES, "vector1.site.example"):
        openssl(
            *("req", "-x509", *key, "-keyout", f"{name}.key", "-out", f"{name}.crt"),
            *("-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}"),
            *("-CA", "ca.crt", "-CAkey", "ca.key"),
        )
    return folder


@dataclass
class Part:
    """One host: its folder and its running program."""

    folder: Path
    config: dict[str, Any]
    credentials: Path
    process: subprocess.Popen[bytes] | None = field(default=None)

    def start(self) -> None:
        config = self.folder / "nodes.json"
        config.write_text(json.dumps(self.config))
        command = [sys.executable, "-I", str(SCRIPT), str(config)]
        engine = ["/bin/sh", "-c", ENGINE.format(folder=self.folder)]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*command, *engine],
                env={**os.environ, "CREDENTIALS_DIRECTORY": str(self.credentials)},
                stderr=log,
            )

    def engine(self) -> int | None:
        """Return the process id of the engine while it runs."""
        path = self.folder / "engine"
        text = path.read_text().strip() if path.exists() else ""
        if not text or not Path(f"/proc/{text}/stat").exists():
            return None
        state = Path(f"/proc/{text}/stat").read_text().rpartition(")")[2].split()[0]
        return None if state == "Z" else int(text)

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def status(self) -> int:
        assert self.process is not None
        return self.process.wait(WITHIN)

    def log(self) -> str:
        return (self.folder / "log").read_text()


Make = Callable[..., list[Part]]


@pytest.fixture
def make(tmp_path: Path, authority: Path) -> Iterator[Make]:
    made: list[Part] = []

    def parts(count: int = 2, **changes: Any) -> list[Part]:
        with socket.socket() as free:
            free.bind((ADDRESSES[0], 0))
            port = free.getsockname()[1]
        for rank in range(count):
            folder = tmp_path / f"host{rank}"
            folder.mkdir()
            config = {
                "instance": "big-gpu1",
                "rank": rank,
                "addresses": ADDRESSES[:count],
                "names": NAMES[:count],
                "port": port,
                "digest": "same",
                "drain_seconds": 5,
                "silence_seconds": 2,
                "wait_seconds": 20,
                **changes,
            }
            made.append(Part(folder, config, credentials(tmp_path, authority, NAMES[rank])))
        return made

    yield parts
    for part in made:
        if part.process is not None and part.process.poll() is None:
            part.process.kill()
            part.process.wait()
        engine = part.engine()
        if engine is not None:
            os.killpg(engine, signal.SIGKILL)


def credentials(tmp_path: Path, authority: Path, name: str) -> Path:
    folder = tmp_path / f"credentials-{name}"
    folder.mkdir()
    (folder / "ca.crt").write_bytes((authority / "ca.crt").read_bytes())
    (folder / "tls.crt").write_bytes((authority / f"{name}.crt").read_bytes())
    (folder / "tls.key").write_bytes((authority / f"{name}.key").read_bytes())
    return folder


def eventually(true: Callable[[], object], what: str) -> None:
    until = time.monotonic() + WITHIN
    while not true():
        assert time.monotonic() < until, what
        time.sleep(0.02)


def running(parts: list[Part]) -> None:
    for part in parts:
        part.start()
    for part in parts:
        eventually(part.engine, f"the engine does not start: {part.log()}")


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0)])
def test_every_part_waits_for_all_others_in_any_order(make: Make, order: tuple[int, ...]) -> None:
    parts = make(3)
    for rank in order[:2]:
        parts[rank].start()
    time.sleep(0.5)
    assert [part.engine() for part in parts] == [None, None, None]

    parts[order[2]].start()

    for part in parts:
        eventually(part.engine, part.folder.name)


@pytest.mark.parametrize("lost", [0, 1])
@pytest.mark.parametrize("what", ["engine", "supervisor"])
def test_a_dead_part_takes_the_other_down(make: Make, lost: int, what: str) -> None:
    parts = make()
    running(parts)
    other = parts[1 - lost]

    if what == "engine":
        os.kill(parts[lost].engine() or 0, signal.SIGKILL)
    else:
        parts[lost].signal(signal.SIGKILL)

    assert other.status() == 1
    assert other.engine() is None
    assert not (other.folder / "drained").exists()
    assert f"{NAMES[lost]} has ended its part" in other.log()


def test_a_host_that_falls_silent_is_lost(make: Make) -> None:
    parts = make(silence_seconds=1)
    running(parts)

    parts[1].signal(signal.SIGSTOP)

    assert parts[0].status() == 1
    assert f"{NAMES[1]} is silent for 1 s" in parts[0].log()
    assert parts[0].engine() is None


def test_parts_that_are_well_stay(make: Make) -> None:
    parts = make(silence_seconds=0.4)
    running(parts)

    time.sleep(1.5)

    assert all(part.engine() for part in parts), parts[0].log()


def test_a_stopped_leader_drains_and_the_other_starts_anew(make: Make) -> None:
    parts = make()
    running(parts)

    parts[0].signal(signal.SIGTERM)

    assert parts[0].status() == 0
    assert (parts[0].folder / "drained").exists()
    assert parts[1].status() == 1


def test_a_stopped_follower_works_on_until_the_leader_has_drained(make: Make) -> None:
    parts = make()
    running(parts)

    parts[1].signal(signal.SIGTERM)
    eventually(lambda: "wants to leave" in parts[0].log(), "the leader does not hear of it")
    assert parts[1].engine() is not None

    assert parts[0].status() == 1
    assert (parts[0].folder / "drained").exists()
    assert parts[1].status() == 0
    assert parts[1].engine() is None


def test_other_settings_do_not_start_and_the_right_ones_do(make: Make) -> None:
    parts = make()
    parts[1].config["digest"] = "older"
    for part in parts:
        part.start()
    eventually(lambda: "other settings" in parts[1].log(), parts[1].log())
    assert [part.engine() for part in parts] == [None, None]
    parts[1].signal(signal.SIGTERM)
    parts[1].status()

    parts[1].config["digest"] = "same"
    parts[1].start()

    for part in parts:
        eventually(part.engine, part.log())


def test_a_host_that_is_no_part_is_not_let_in(make: Make, tmp_path: Path, authority: Path) -> None:
    parts = make()
    parts[1].credentials = credentials(tmp_path, authority, "vector1.site.example")
    for part in parts:
        part.start()

    eventually(lambda: "is no part of big-gpu1" in parts[0].log(), parts[0].log())

    assert [part.engine() for part in parts] == [None, None]


def test_who_has_no_certificate_or_talks_nonsense_is_not_let_in(
    make: Make, authority: Path
) -> None:
    parts = make()
    parts[0].start()
    eventually(lambda: "waiting for" in parts[0].log(), parts[0].log())
    anonymous = ssl.create_default_context(cafile=str(authority / "ca.crt"))
    port = parts[0].config["port"]

    def refused(talk: Callable[[socket.socket], None]) -> None:
        before = parts[0].log().count("is not let in")
        with socket.create_connection((ADDRESSES[0], port), 5) as raw:
            talk(raw)
        eventually(lambda: parts[0].log().count("is not let in") > before, parts[0].log())

    def no_certificate(raw: socket.socket) -> None:
        connection = anonymous.wrap_socket(raw, server_hostname=NAMES[0])
        with connection, pytest.raises((ssl.SSLError, ConnectionError)):
            connection.sendall(b'{"kind": "hello"}\n')
            connection.recv(1)

    refused(lambda raw: raw.sendall(b"GET / HTTP/1.0\r\n\r\n"))
    refused(no_certificate)
    parts[1].start()

    for part in parts:
        eventually(part.engine, part.log())


@pytest.mark.parametrize("rank", [0, 1])
def test_a_part_does_not_wait_for_ever(make: Make, rank: int) -> None:
    parts = make(wait_seconds=0.5)
    parts[rank].start()

    assert parts[rank].status() == 1
    assert f"in vain for {NAMES[1 - rank]}" in parts[rank].log()
    assert parts[rank].engine() is None


def test_without_settings_of_several_hosts_it_becomes_the_engine(tmp_path: Path) -> None:
    command = [sys.executable, "-I", str(SCRIPT), str(tmp_path / "none.json"), "/bin/echo", "on"]

    assert subprocess.run(command, capture_output=True, check=True).stdout == b"on\n"


def test_broken_settings_are_told(tmp_path: Path) -> None:
    path = tmp_path / "nodes.json"
    path.write_text('{"instance": "big-gpu1"}')

    done = subprocess.run(
        [sys.executable, "-I", str(SCRIPT), str(path), "/bin/true"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.returncode == 1
    assert f"{path} cannot be used" in done.stderr and "converge" in done.stderr
