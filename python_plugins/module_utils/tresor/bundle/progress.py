"""Progress for people: bytes, rate and time left, on a terminal or as lines in a log."""

from __future__ import annotations

import sys
import threading
import time
from typing import TextIO

_MIB = 1024 * 1024


class Progress:
    """Counts bytes from several threads and writes a line now and then.

    Args:
        total: bytes expected.
        label: what is done, for example ``copy``.
        stream: where to write; stderr if absent.
        quiet: count only.
    """

    def __init__(
        self, total: int, label: str, *, stream: TextIO | None = None, quiet: bool = False
    ) -> None:
        self.total = total
        self.done = 0
        self._label = label
        self._stream = stream or sys.stderr
        self._quiet = quiet
        self._terminal = self._stream.isatty()
        self._every = 0.5 if self._terminal else 5.0
        self._started = self._shown = time.monotonic()
        self._lock = threading.Lock()

    def add(self, count: int) -> None:
        """Count bytes; safe from any thread."""
        with self._lock:
            self.done += count
            now = time.monotonic()
            if now - self._shown >= self._every:
                self._shown = now
                self._write(self._line(now))

    def finish(self) -> None:
        """Write the closing line."""
        with self._lock:
            self._write(self._line(time.monotonic()), last=True)

    def _line(self, now: float) -> str:
        seconds = max(now - self._started, 1e-6)
        rate = self.done / seconds
        left = (self.total - self.done) / rate if rate > 0 else 0.0
        share = 100 * self.done // self.total if self.total else 100
        return (
            f"{self._label}: {self.done / _MIB:,.0f} of {self.total / _MIB:,.0f} MiB ({share} %), "
            f"{rate / _MIB:,.0f} MiB/s, {left:,.0f} s left"
        )

    def _write(self, line: str, *, last: bool = False) -> None:
        if self._quiet:
            return
        if self._terminal:
            self._stream.write(f"\r\x1b[K{line}" + ("\n" if last else ""))
        else:
            self._stream.write(line + "\n")
        self._stream.flush()
