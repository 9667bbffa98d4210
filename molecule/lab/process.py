"""Recognise a process again: pid plus start time, and a zombie counts as dead."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path


def parse_stat(text: str) -> int | None:
    """Return the start time (clock ticks after boot) from /proc/PID/stat; None for the dead.

    The second field is the program's name in parentheses and may hold anything, so the text is
    read from its last parenthesis on.
    """
    fields = text.rpartition(")")[2].split()
    if len(fields) < 20 or fields[0] in {"Z", "X"}:
        return None
    return int(fields[19])


@dataclass(frozen=True)
class Process:
    """A process that existed once; never mistaken for a later one with the same pid."""

    pid: int
    start: int

    @classmethod
    def of(cls, pid: int) -> Process | None:
        """Return the living process with this pid, or None."""
        try:
            start = parse_stat(Path(f"/proc/{pid}/stat").read_text())
        except (FileNotFoundError, ProcessLookupError):
            return None
        return None if start is None else cls(pid, start)

    def alive(self) -> bool:
        """Whether this very process still runs."""
        return Process.of(self.pid) == self

    def send(self, number: signal.Signals) -> None:
        """Send a signal; a process that is gone is no error."""
        try:
            descriptor = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return
        try:
            # The descriptor pins the process: checked after opening, it cannot be another one.
            if self.alive():
                signal.pidfd_send_signal(descriptor, number)
        except ProcessLookupError:
            return
        finally:
            os.close(descriptor)
