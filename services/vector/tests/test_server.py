"""The real server's main process, with small programs in the server's place."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tresor_vector.errors import VectorError
from tresor_vector.host import first_start, server

RUNS = """
import sys
from pathlib import Path
from tresor_vector.host import server
folder = Path(sys.argv[1])
def secure(runs):
    (folder / "secured").write_text("runs" if runs() else "gone")
    return True
settings = server.Server(folder / "milvus", folder / "lib", folder, folder)
sys.exit(server.run(settings, secure))
"""


def program(folder: Path, text: str) -> server.Server:
    """Write a program in the server's place."""
    (folder / "milvus.yaml").write_text("x: 1\n")
    path = folder / "milvus"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return server.Server(path, folder / "lib", folder, folder)


def no_work(_: Callable[[], bool]) -> bool:
    return False


def test_server_gets_its_configuration_and_nothing_else(tmp_path: Path) -> None:
    settings = program(tmp_path, 'echo "$MILVUSCONF $LD_LIBRARY_PATH $1 $2 $PWD" > seen; env > env')
    assert server.run(settings, no_work) == 0
    seen = (tmp_path / "seen").read_text()
    assert seen == f"{tmp_path} {tmp_path}/lib run standalone {tmp_path}\n"
    assert "NOTIFY_SOCKET" not in (tmp_path / "env").read_text()


@pytest.mark.parametrize(("text", "status"), [("exit 3", 3), ("kill -KILL $$", 137)])
def test_its_status_is_passed_on(tmp_path: Path, text: str, status: int) -> None:
    assert server.run(program(tmp_path, text), no_work) == status


def test_server_that_cannot_be_secured_is_stopped(tmp_path: Path) -> None:
    settings = program(tmp_path, "echo $$ > pid; exec sleep 60")

    def fails(_: Callable[[], bool]) -> bool:
        end = time.monotonic() + 10
        while not (tmp_path / "pid").exists() and time.monotonic() < end:
            time.sleep(0.01)
        raise VectorError("the default password is still accepted")

    with pytest.raises(VectorError, match="still accepted"):
        server.run(settings, fails)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_term_reaches_the_server_and_ends_well(tmp_path: Path) -> None:
    # As the real one: it ends its work and then aborts.
    program(tmp_path, "trap 'echo ended > ended; kill -ABRT $$' TERM; while :; do sleep 0.05; done")
    process = subprocess.Popen(
        [sys.executable, "-c", RUNS, str(tmp_path)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    end = time.monotonic() + 20
    while not (tmp_path / "secured").exists() and time.monotonic() < end:
        time.sleep(0.02)
    time.sleep(0.3)
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    assert (tmp_path / "secured").read_text() == "runs"
    assert (tmp_path / "ended").exists()


def test_missing_configuration_and_program_are_told(tmp_path: Path) -> None:
    settings = program(tmp_path, "exit 0")
    (tmp_path / "milvus").chmod(0o644)
    with pytest.raises(VectorError, match="is no program"):
        settings.start()
    (tmp_path / "milvus.yaml").unlink()
    with pytest.raises(VectorError, match=r"watch\.service writes it"):
        settings.start()


def test_waiting_ends_with_the_server() -> None:
    began = time.monotonic()
    with pytest.raises(VectorError, match="ended while it started"):
        first_start.wait_healthy("http://127.0.0.1:9", 60, lambda: False)
    with pytest.raises(VectorError, match="not healthy after 1 s"):
        first_start.wait_healthy("http://127.0.0.1:9", 1, lambda: True)
    assert time.monotonic() - began < 20
