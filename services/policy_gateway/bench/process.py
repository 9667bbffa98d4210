"""Processes under measurement: start pinned, wait for their port, read CPU time and memory."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

PROC: Final = Path("/proc")
_WAIT_SECONDS: Final = 60.0
_STOP_SECONDS: Final = 15.0


class Running:
    """A process with its children, pinned to one core."""

    def __init__(self, command: Sequence[str], core: int | None, log: Path, **env: str) -> None:
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **env},
                start_new_session=True,
            )
        self._log = log
        if core is not None:
            pin(self._process.pid, core)

    @property
    def pid(self) -> int:
        """Of the first process."""
        return self._process.pid

    def wait_for(self, port: int, *, seconds: float = _WAIT_SECONDS) -> None:
        """Until something listens.

        Raises:
            RuntimeError: it ended, or nothing listens in time.
        """
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self._process.poll() is not None:
                break
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                return
            time.sleep(0.05)
        raise RuntimeError(f"nothing listens at port {port}; see {self._log}")

    def stop(self) -> None:
        """End it and its children."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()


def pin(pid: int, core: int) -> None:
    """Keep a process on one core."""
    os.sched_setaffinity(pid, {core})


def free_port() -> int:
    """A loopback port that nobody uses."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def family(pid: int) -> list[int]:
    """A process and its descendants."""
    parents: dict[int, list[int]] = {}
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            with suppress(OSError, IndexError):
                fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
                parents.setdefault(int(fields[1]), []).append(int(entry.name))
    found, waiting = [], [pid]
    while waiting:
        current = waiting.pop()
        found.append(current)
        waiting += parents.get(current, [])
    return found


def cpu_seconds(pid: int) -> float:
    """CPU time of a process, its threads and its descendants, to the nanosecond."""
    total = 0
    for member in family(pid):
        with suppress(OSError):
            for task in (PROC / str(member) / "task").iterdir():
                with suppress(OSError, IndexError):
                    total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def rss_mib(pid: int) -> float:
    """Resident memory of the largest process of the family (MiB)."""
    pages = 0
    for member in family(pid):
        with suppress(OSError, IndexError):
            pages = max(pages, int((PROC / str(member) / "statm").read_text().split()[1]))
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
