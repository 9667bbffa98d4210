"""Progress lines on stderr: what, n of m, megabytes, rate; at most one line every two seconds."""

from __future__ import annotations

import sys
import threading
import time
from types import TracebackType

_INTERVAL_SECONDS = 2.0
_MEGA = 1_000_000


def say(text: str) -> None:
    """Print one line of the builder's own voice to stderr."""
    sys.stderr.write(f"bundle: {text}\n")
    sys.stderr.flush()


class Progress:
    """Shows the state of one longer step from a background thread.

    Used as a context manager. Steps shorter than the interval print only their last line, and that
    only if they moved data or took longer than a second.
    """

    def __init__(self, what: str, total: int, total_bytes: int = 0) -> None:
        self._what = what
        self._total = total
        self._total_bytes = total_bytes
        self._done = 0
        self._done_bytes = 0
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._started = 0.0
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Progress:
        self._started = time.monotonic()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        if kind is None and (self._done_bytes or time.monotonic() - self._started > 1):
            say(self.line() + ", done")

    def add(self, count: int = 1, size: int = 0) -> None:
        """Count ``count`` finished items of together ``size`` bytes."""
        with self._lock:
            self._done += count
            self._done_bytes += size

    def line(self) -> str:
        """Return the line that describes the state now."""
        seconds = max(time.monotonic() - self._started, 0.001)
        with self._lock:
            text = f"{self._what}: {self._done} of {self._total}"
            if self._total_bytes:
                rate = self._done_bytes / _MEGA / seconds
                text += (
                    f", {self._done_bytes / _MEGA:.0f} of {self._total_bytes / _MEGA:.0f} MB, "
                    f"{rate:.1f} MB/s"
                )
        return f"{text}, {seconds:.0f} s"

    def _run(self) -> None:
        while not self._stop.wait(_INTERVAL_SECONDS):
            say(self.line())
