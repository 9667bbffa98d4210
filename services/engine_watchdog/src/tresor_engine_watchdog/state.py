"""What must survive a restart of the watchdog: which start has answered, and what was done when."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from tresor.system.whole_file import write_whole

HOUR_SECONDS: Final = 3600.0
_KEPT: Final = 1000


@dataclass
class Record:
    """Of one engine: the start (systemd's invocation id) that has answered, times of restarts.

    `stopped` says that it was stopped and waits for somebody; `restarts` counts all restarts ever.
    """

    answered: str = ""
    times: list[float] = field(default_factory=list)
    restarts: int = 0
    stopped: bool = False

    def recent(self, now: float) -> int:
        """Return how many restarts the last hour had."""
        return sum(1 for at in self.times if now - HOUR_SECONDS < at <= now)

    def note(self, now: float) -> None:
        """Remember a restart."""
        self.times = [*self.times[-_KEPT + 1 :], now]
        self.restarts += 1


State = dict[str, Record]


def load(path: Path) -> State:
    """Return the state; a missing file is a new one.

    Raises:
        ValueError: the file is damaged. It holds the cap, so guessing would be unsafe.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    if not isinstance(data, dict):
        raise ValueError(f"the state in {path} is no mapping")
    return {str(name): _record(name, one) for name, one in data.items()}


def _record(name: str, data: Mapping[str, Any]) -> Record:
    try:
        return Record(
            answered=str(data["answered"]),
            times=[float(at) for at in data["times"]],
            restarts=int(data["restarts"]),
            stopped=bool(data["stopped"]),
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"the state of {name} lacks or mistakes {error}") from None


def save(path: Path, state: State) -> None:
    """Write the state so that a crash leaves the old or the new one, on disk before it returns."""
    data = {name: asdict(record) for name, record in sorted(state.items())}
    write_whole(path, json.dumps(data), sync=True)
