"""What must survive a restart and a reboot: how far the log was read, and what was done when."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tresor.system.whole_file import write_whole

DAY_SECONDS: Final = 86400.0
_KEPT_ACTIONS: Final = 1000


@dataclass
class State:
    """Cursor of the journal, times (seconds since 1970) and words of actions, counts of XIDs.

    `drained` holds the engines that were stopped and wait for somebody; `proof_due` is set before a
    reboot, after which the host has to prove itself before engines may run.
    """

    cursor: str = ""
    actions: list[tuple[float, str]] = field(default_factory=list)
    xids: Counter[tuple[str, int]] = field(default_factory=Counter)
    drained: list[str] = field(default_factory=list)
    proof_due: bool = False
    capped: bool = False

    def taken(self, now: float) -> int:
        """Return how many actions the last 24 hours had."""
        return sum(1 for at, _ in self.actions if now - DAY_SECONDS < at <= now)

    def note(self, now: float, word: str) -> None:
        """Remember an action."""
        self.actions = [*self.actions[-_KEPT_ACTIONS + 1 :], (now, word)]


def load(path: Path) -> State:
    """Return the state; a missing file is a new one.

    Raises:
        ValueError: the file is damaged. It holds the cap, so guessing would be unsafe.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return State()
    return _read(data)


def _read(data: Mapping[str, Any]) -> State:
    try:
        return State(
            cursor=str(data["cursor"]),
            actions=[(float(at), str(word)) for at, word in data["actions"]],
            xids=Counter({(str(pci), int(code)): int(n) for pci, code, n in data["xids"]}),
            drained=[str(unit) for unit in data["drained"]],
            proof_due=bool(data["proof_due"]),
            capped=bool(data["capped"]),
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"the state lacks or mistakes {error}") from None


def save(path: Path, state: State) -> None:
    """Write the state so that a crash leaves the old or the new one, on disk before it returns."""
    data = {
        "cursor": state.cursor,
        "actions": state.actions,
        "xids": [[pci, code, n] for (pci, code), n in sorted(state.xids.items())],
        "drained": state.drained,
        "proof_due": state.proof_due,
        "capped": state.capped,
    }
    write_whole(path, json.dumps(data), sync=True)
