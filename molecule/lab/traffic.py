"""Steady traffic from the company's side of the lab, and what its users saw."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

FILES = Path(__file__).parent / "files"
_TIMEOUT_SECONDS = 90.0
_SCRIPT = "/run/company-traffic.py"


@dataclass(frozen=True)
class Outcome:
    """One request as its user saw it; times are seconds of the machine's monotonic clock.

    All hosts of the lab share that clock with the machine, so a test may compare them with its own.
    """

    user: int
    stream: bool
    start: float
    end: float
    status: int
    whole: bool
    told: bool
    problem: str

    @property
    def good(self) -> bool:
        """Whether a whole answer arrived."""
        return self.status == 200 and self.whole and not self.told

    @property
    def honest(self) -> bool:
        """Whether an answer that is not whole says so: by status, last event, or its end."""
        return self.good or self.status != 200 or self.told or bool(self.problem)


@dataclass(frozen=True)
class Outage:
    """What an event at ``at`` did to the users.

    ``failed`` requests got no whole answer. ``recovery`` is the time from the event to the start of
    the first request after which every later one was answered (0: none failed). ``slowest`` is the
    longest answer of a request that was under way at the event or began later. All in seconds.
    """

    at: float
    requests: int
    failed: int
    recovery: float
    slowest: float

    def __str__(self) -> str:
        return (
            f"{self.requests} requests, {self.failed} without a whole answer, all answered again"
            f" {self.recovery:.1f} s after the event, slowest answer {self.slowest:.1f} s"
        )


def outage(outcomes: Sequence[Outcome], at: float) -> Outage:
    """Return what the event at ``at`` (seconds of the monotonic clock) cost.

    Raises:
        ValueError: no request began after the event.
    """
    touched = sorted((o for o in outcomes if o.end >= at), key=lambda outcome: outcome.start)
    later = [o for o in touched if o.start >= at]
    if not later:
        raise ValueError("no request began after the event: the traffic had stopped")
    bad = [o for o in touched if not o.good]
    after = [o.start for o in later if not bad or o.start > bad[-1].start]
    recovery = 0.0 if not bad else (min(after) if after else float("inf")) - at
    return Outage(at, len(touched), len(bad), recovery, max(o.end - o.start for o in touched))


def lost_after(outcomes: Sequence[Outcome], moment: float) -> int:
    """Return how many requests that began after ``moment`` got no whole answer."""
    return sum(o.start > moment and not o.good for o in outcomes)


class Traffic:
    """Users at ``company1`` who ask the site's model until the block ends."""

    def __init__(self, command: Sequence[str], url: str, token: str, model: str) -> None:
        """``command`` runs its arguments on company1 with stdin and stdout passed through."""
        self._command = list(command)
        self._wanted = {
            "url": url,
            "token": token,
            "model": model,
            "ca_file": "/tmp/site-ca.crt",  # noqa: S108  (a host of the lab)
            "users": 4,
            "timeout": _TIMEOUT_SECONDS,
        }
        self._lines: list[Outcome] = []
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        put = [*self._command, "sh", "-c", f"'cat > {_SCRIPT}'"]
        subprocess.run(put, input=(FILES / "company_traffic.py").read_bytes(), check=True)
        self._process = subprocess.Popen(
            [*self._command, "python3", _SCRIPT],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdin is not None  # noqa: S101  (asked for above)
        self._process.stdin.write(json.dumps(self._wanted) + "\n")
        self._process.stdin.flush()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> list[Outcome]:
        """Let the requests under way end and return what all users saw."""
        if self._process.stdin is not None and not self._process.stdin.closed:
            self._process.stdin.close()
        self._process.wait(timeout=_TIMEOUT_SECONDS + 30)
        self._reader.join()
        if self._process.stdout is not None:
            self._process.stdout.close()
        return self.outcomes

    @property
    def outcomes(self) -> list[Outcome]:
        """What users have seen up to now."""
        with self._lock:
            return list(self._lines)

    def wait_for_good(self, number: int, *, since: float, seconds: float) -> None:
        """Wait until ``number`` whole answers ended after ``since``.

        Raises:
            TimeoutError: fewer came within ``seconds``.
        """
        deadline = time.monotonic() + seconds
        while sum(o.good and o.end >= since for o in self.outcomes) < number:
            if time.monotonic() > deadline:
                last = self.outcomes[-3:]
                raise TimeoutError(f"fewer than {number} answers in {seconds} s; last: {last}")
            time.sleep(0.2)

    def _read(self) -> None:
        assert self._process.stdout is not None  # noqa: S101  (asked for at its start)
        for line in self._process.stdout:
            with self._lock:
                self._lines.append(Outcome(**json.loads(line)))
