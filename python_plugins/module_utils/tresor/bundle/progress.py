"""Progress for people: bytes, rate and time left, on a terminal or as lines in a log."""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path
from typing import TextIO

_MIB = 1024 * 1024


class Progress:
    """Counts bytes from several threads and writes a line now and then.

    Args:
        total: bytes expected.
        label: what is done, for example ``copy``.
        stream: where to write; stderr if absent.
        quiet: write nothing to the stream.
        note: file that says the same for others to read; the caller removes it.
    """

    def __init__(
        self,
        total: int,
        label: str,
        *,
        stream: TextIO | None = None,
        quiet: bool = False,
        note: Path | None = None,
    ) -> None:
        self.total = total
        self.done = 0
        self._label = label
        self._stream = stream or sys.stderr
        self._quiet = quiet
        self._note = note
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
                self._leave_note(now)

    def finish(self) -> None:
        """Write the closing line."""
        with self._lock:
            self._write(self._line(time.monotonic()), last=True)

    def _pace(self, now: float) -> tuple[float, float]:
        """Return bytes per second so far, and the seconds left at that rate."""
        rate = self.done / max(now - self._started, 1e-6)
        return rate, (self.total - self.done) / rate if rate > 0 else 0.0

    def _leave_note(self, now: float) -> None:
        if self._note is None:
            return
        rate, left = self._pace(now)
        text = json.dumps(
            {"done": self.done, "total": self.total, "rate": int(rate), "seconds_left": int(left)}
        )
        # Not flushed to disk: a reader sees the old or the new text, and a crash may lose it.
        fresh = self._note.with_suffix(".new")
        fresh.write_text(text + "\n", encoding="ascii")
        fresh.replace(self._note)

    def _line(self, now: float) -> str:
        rate, left = self._pace(now)
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
