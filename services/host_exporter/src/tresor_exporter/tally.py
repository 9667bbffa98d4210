"""Counts over a followed log: counters and positions are saved together, then shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from tresor_exporter.errors import CollectorError
from tresor_exporter.follow import Follower
from tresor_exporter.state import StateFile


class Counts(Protocol):
    """What a collector counts."""

    def add(self, line: bytes) -> bool:
        """Count a line; False if it makes no sense. Must not raise."""

    def dump(self) -> dict[str, Any]:
        """Return the counters for JSON."""

    def restore(self, data: dict[str, Any]) -> None:
        """Take over what ``dump`` gave.

        Raises:
            KeyError, TypeError, ValueError: it is something else.
        """


class Tally:
    """Feeds the new lines of a log to ``counts``; ``rejected`` counts those without sense."""

    def __init__(self, log: Path, state: StateFile, counts: Counts) -> None:
        self.rejected = 0
        self._log = log
        self._state = state
        self._counts = counts
        self._follower: Follower | None = None

    def update(self) -> None:
        """Read what is new and save where it ended.

        Raises:
            CollectorError: log or state cannot be used; counters stay as they are known.
        """
        try:
            follower = self._follower = self._follower or self._open()
            problem: OSError | None = None
            try:
                for batch in follower.batches():
                    self.rejected += batch.dropped
                    self.rejected += sum(not self._counts.add(line) for line in batch.lines)
            except OSError as error:
                problem = error
            content = {"positions": follower.positions(), "rejected": self.rejected}
            self._state.save({**content, "counts": self._counts.dump()})
        except OSError as error:
            raise CollectorError(f"state of {self._log}: {error}") from error
        if problem is not None:
            raise CollectorError(
                f"{problem.filename or self._log}: {problem.strerror}; "
                "does its writer run, and may this user read it?"
            ) from problem

    def _open(self) -> Follower:
        saved = self._state.load()
        if saved is not None:
            try:
                follower = Follower(self._log, dict(saved["positions"]))
                rejected = int(saved["rejected"])
                self._counts.restore(saved["counts"])
            except (KeyError, TypeError, ValueError, AttributeError):
                self._state.set_aside()
            else:
                self.rejected = rejected
                return follower
        return Follower(self._log, None)
