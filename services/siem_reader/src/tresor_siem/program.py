"""The service: sources into the spool, the spool into rsyslog, proofs back into the spool."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import select
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from tresor_siem import observe
from tresor_siem.config import Config, read
from tresor_siem.errors import ForwardError
from tresor_siem.intake import Intake
from tresor_siem.link import Link
from tresor_siem.proof import Sample
from tresor_siem.spool import Spool, write_file

_ROUND_SECONDS = 0.2
_REPORT_SECONDS = 1.0
_CONNECT_SECONDS = 1.0
_FRESH_SECONDS = 15.0
_NET = Path("/proc/self/net")


class Service:
    """One run of the service."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._spool = Spool(config.spool)
        self._intake = Intake(config, self._spool)
        self._stats = observe.Stats(config.stats)
        self._link: Link | None = None
        self._tried = self._reported = float("-inf")
        self._backlog = self._spool.unproven_messages()
        self._proven_before = 0
        self._marks: deque[tuple[float, int]] = deque()
        # A backlog was there before this run: it is as old as the last proof.
        late = self._backlog > config.window
        self._covered = self._spool.proven_time() if late else time.time()
        self._stopping = False
        self._last_blocked: str | None = None

    def stop(self, _signal: int, _frame: FrameType | None) -> None:
        """End after this round."""
        self._stopping = True

    def run(self) -> None:
        """Work until a signal; raises OSError and ForwardError."""
        _tell_systemd("READY=1")
        while not self._stopping:
            now = time.monotonic()
            more = self._intake.take(now, time.time())
            self._send(now)
            self._report(now)
            self._wait(0.0 if more else _ROUND_SECONDS)
        self._intake.close()
        self._disconnect()
        self._spool.close()

    def _wait(self, seconds: float) -> None:
        reading = [fd for fd in (self._intake.descriptor(),) if fd is not None]
        writing = [self._link.fileno()] if self._link and self._link.wants_to_send else []
        with contextlib.suppress(InterruptedError):
            _, ready, _ = select.select(reading, writing, [], seconds)
            if reading and seconds and not ready:
                # A moment to gather: a batch costs a write, however small it is.
                time.sleep(0.02)

    def _send(self, now: float) -> None:
        if self._link is None:
            if now - self._tried < _CONNECT_SECONDS:
                return
            self._tried = now
            config = self._config
            try:
                self._link = Link(config.input_socket, self._spool, config.window, config.in_flight)
            except OSError:
                return
            self._stats.skip()
        try:
            for counters in self._stats.read():
                self._link.observe(self._sample(counters))
            self._link.pump(now)
        except OSError:
            self._disconnect()

    def _sample(self, counters: dict[str, object]) -> Sample:
        config = self._config
        return Sample(
            enqueued=int(str(counters.get("enqueued", 0))),
            size=int(str(counters.get("size", 0))),
            session=observe.session(config.collector, os.getuid(), _NET),
        )

    def _disconnect(self) -> None:
        if self._link is not None:
            self._proven_before += self._link.proven_messages
            self._link.close()
            self._link = None

    def _report(self, now: float) -> None:
        """Write what the exporter and verify read; a full disk leaves the older report."""
        if now - self._reported < _REPORT_SECONDS:
            return
        self._reported = now
        _tell_systemd("WATCHDOG=1")
        blocked = self._intake.blocked
        if blocked != self._last_blocked:
            word = f"no room, sources wait: {blocked}" if blocked else "there is room again"
            print(f"tresor-siem-reader: {word}", file=sys.stderr, flush=True)
            self._last_blocked = blocked
        submitted = sum(self._intake.submitted.values())
        proven = self._proven_before + (self._link.proven_messages if self._link else 0)
        unproven = self._backlog + submitted - proven
        wall = time.time()
        self._marks.append((wall, submitted))
        while self._marks and self._backlog + self._marks[0][1] <= proven + self._config.window:
            self._covered = self._marks.popleft()[0]
        report = {
            "time": wall,
            "covered_until": self._covered,
            "unproven_records": unproven,
            "window": self._config.window,
            "proven_records": proven,
            "submitted": self._intake.submitted,
            "spool_bytes": self._spool.size(),
            "spool_limit_bytes": self._config.max_spool_bytes,
            "connected": bool(self._link and self._link.proof.session),
            "blocked": blocked,
            "lost_journal_entries": self._intake.lost_journal_entries,
            "unreadable": self._intake.unreadable,
        }
        with contextlib.suppress(OSError):
            write_file(self._config.checkpoint, json.dumps(report, sort_keys=True) + "\n")


def _tell_systemd(word: str) -> None:
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify, contextlib.suppress(OSError):
        notify.connect(address.replace("@", "\0", 1))
        notify.send(word.encode())


def status(config: Config, seconds: float) -> int:
    """Print how forwarding stands; 0 when connected, 3 when not within the seconds."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            report = json.loads(config.checkpoint.read_text())
            fresh = time.time() - report["time"] < _FRESH_SECONDS
            if fresh and report["connected"]:
                print(json.dumps(report, sort_keys=True))
                return 0
            word = f"{report['unproven_records']} records are not acknowledged."
            word = word if fresh else "The reader writes no report; see its journal."
        except (OSError, ValueError, KeyError):
            word = "There is no report yet."
        if time.monotonic() >= deadline:
            print(word)
            return 3
        time.sleep(0.5)


def main(arguments: Sequence[str]) -> int:
    """Run the service or, with ``--status SECONDS``, ask how it stands.

    Returns 1 with the reason on standard error, 2 for wrong use.
    """
    parser = argparse.ArgumentParser(prog="tresor-siem-reader")
    parser.add_argument("--status", type=float, metavar="SECONDS")
    parser.add_argument("config", type=Path)
    options = parser.parse_args(arguments)
    try:
        config = read(options.config)
        if options.status is not None:
            return status(config, options.status)
        service = Service(config)
        signal.signal(signal.SIGTERM, service.stop)
        signal.signal(signal.SIGINT, service.stop)
        service.run()
    except ForwardError as error:
        print(f"tresor-siem-reader: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"tresor-siem-reader: {where}{error.strerror}", file=sys.stderr)
        return 1
    return 0
