"""An engine's systemd unit: its state, and how it is ended."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tresor.gpu.commands import Runner

GRACE_SECONDS: Final = 3.0
"""So long an engine has to write its stacks. Less than the unit's RestartSec, or SIGKILL would
meet the engine's next start."""
_SHOWN: Final = ("ActiveState", "SubState", "InvocationID", "MainPID", "NRestarts")


@dataclass(frozen=True)
class Shown:
    """What systemd says of a unit; empty texts where it says nothing."""

    active: str = ""
    sub: str = ""
    invocation: str = ""
    main_pid: int = 0
    restarts: str = ""

    @property
    def running(self) -> bool:
        """Return whether it is started and not on its way out."""
        return self.active == "active" and bool(self.invocation)


class Unit:
    """One unit; commands are given to `run`."""

    def __init__(
        self, name: str, run: Runner, sleep: Callable[[float], None] = time.sleep
    ) -> None:  # fmt: skip
        """Take the unit's name."""
        self.name = name
        self._run = run
        self._sleep = sleep

    def show(self) -> Shown:
        """Return its state."""
        done = self._run(("systemctl", "show", f"--property={','.join(_SHOWN)}", self.name))
        values = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
        active, sub, invocation, pid, restarts = (values.get(key, "") for key in _SHOWN)
        return Shown(active, sub, invocation, int(pid) if pid.isdecimal() else 0, restarts)

    def kill(self) -> str:
        """End it at once; systemd starts it again. Return what went wrong.

        A hanging engine ends no request, so there is nothing to wait for. SIGABRT makes Python
        write the stacks of all threads to the unit's log (PYTHONFAULTHANDLER).
        """
        before = self.show()
        done = self._run(("systemctl", "kill", "--signal=SIGABRT", self.name))
        self._sleep(GRACE_SECONDS)
        after = self.show()
        if after.running and after.invocation == before.invocation:
            done = self._run(("systemctl", "kill", "--signal=SIGKILL", self.name))
        return done.problem

    def stop(self) -> str:
        """Stop it for good, until somebody starts it. Return what went wrong."""
        return self._run(("systemctl", "stop", "--no-block", self.name)).problem
