"""systemd units: enabled, running, and running on the configuration that lies there now."""

from __future__ import annotations

import datetime as dt
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .errors import SystemStateError

_PROPERTIES = (
    "Id",
    "LoadState",
    "ActiveState",
    "UnitFileState",
    "NeedDaemonReload",
    "InactiveExitTimestamp",
)
_ENABLED = frozenset({"enabled", "static", "indirect", "generated", "alias"})


@dataclass(frozen=True)
class WantedUnit:
    """A unit that runs; a change of a watched file after its start means a restart."""

    name: str
    watch: tuple[Path, ...] = ()


@dataclass(frozen=True)
class UnitState:
    """What systemd says about one unit. ``started`` is seconds since the epoch."""

    name: str
    loaded: bool
    masked: bool
    active: bool
    enabled: bool
    needs_reload: bool
    started: float


@dataclass(frozen=True)
class Step:
    """One call of systemctl and why it is made."""

    verb: str
    unit: str
    reason: str


def states(names: Sequence[str]) -> dict[str, UnitState]:
    """Return the states of the named units.

    Raises:
        SystemStateError: systemctl failed.
    """
    if not names:
        return {}
    text = systemctl(
        "show", "--timestamp=us+utc", *(f"--property={p}" for p in _PROPERTIES), "--", *names
    )
    blocks = [block for block in text.split("\n\n") if block.strip()]
    if len(blocks) != len(names):
        raise SystemStateError(f"systemctl show answered for {len(blocks)} of {len(names)} units")
    return {name: _state(name, block) for name, block in zip(names, blocks, strict=True)}


def running_like(pattern: str) -> set[str]:
    """Return the names of units that match ``pattern`` and are loaded or enabled.

    Raises:
        SystemStateError: systemctl failed.
    """
    # `list-units --all` knows what runs or failed, the unit files know what is enabled only.
    listed = systemctl("list-units", "--all", "--plain", "--no-legend", "--", pattern)
    names = {line.split()[0] for line in listed.splitlines() if line.strip()}
    files = systemctl("list-unit-files", "--plain", "--no-legend", "--", pattern, none_found=1)
    names |= {line.split()[0] for line in files.splitlines() if line.strip()}
    return {name for name in names if "@." not in name}


def plan(
    wanted: Sequence[WantedUnit],
    found: dict[str, UnitState],
    unwanted: Sequence[str] = (),
    pending: frozenset[Path] = frozenset(),
) -> list[Step]:
    """Return the steps in order. ``pending`` are files that a check-mode run would have changed."""
    steps = [Step("disable", name, "not wanted any more") for name in unwanted]
    known = [found[unit.name] for unit in wanted if unit.name in found]
    if any(state.needs_reload or not state.loaded for state in known) or unwanted:
        steps.append(Step("daemon-reload", "", "unit files changed"))
    for unit in wanted:
        state = found[unit.name]
        if not state.enabled:
            steps.append(Step("enable", unit.name, "not enabled"))
        if not state.active:
            steps.append(Step("start", unit.name, "not running"))
            continue
        changed = newer_than(unit.watch, state.started, pending)
        if changed is not None:
            steps.append(Step("restart", unit.name, f"{changed} changed since it started"))
        elif state.needs_reload:
            steps.append(Step("restart", unit.name, "its unit file changed since it was loaded"))
    return steps


def plan_masked(names: Sequence[str], found: dict[str, UnitState]) -> list[Step]:
    """Return the steps after which the named units neither run nor can be started."""
    return [
        Step("mask", name, "must not run")
        for name in names
        if not found[name].masked or found[name].active
    ]


def newer_than(
    watch: Sequence[Path], started: float, pending: frozenset[Path] = frozenset()
) -> Path | None:
    """Return the first file that is newer than ``started``, None if there is none."""
    for path in watch:
        if path in pending:
            return path
        try:
            status = path.lstat()
        except FileNotFoundError:
            continue
        # ctime, not mtime: it cannot be set back, and a rename or chmod counts as well.
        if status.st_ctime > started:
            return path
    return None


def carry_out(steps: Sequence[Step], *, block: bool) -> None:
    """Do the steps.

    Raises:
        SystemStateError: systemctl failed; the message has the unit's last lines.
    """
    waiting = () if block else ("--no-block",)
    for step in steps:
        if step.verb == "daemon-reload":
            systemctl("daemon-reload")
        elif step.verb == "disable":
            systemctl("disable", "--now", "--", step.unit)
            systemctl("reset-failed", "--", step.unit, tolerate=True)
        elif step.verb == "mask":
            systemctl("mask", "--now", "--", step.unit)
        elif step.verb == "enable":
            systemctl("enable", "--", step.unit)
        else:
            _start(step, waiting)


def systemctl(*arguments: str, tolerate: bool = False, none_found: int = 0) -> str:
    """Run systemctl and return its output.

    Args:
        arguments: its command line.
        tolerate: a failure does not matter.
        none_found: the exit status with which it says, without a word, that nothing matched.

    Raises:
        SystemStateError: it failed and ``tolerate`` is not set.
    """
    done = subprocess.run(
        ["systemctl", "--no-pager", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == none_found and not done.stdout + done.stderr:
        return ""
    if done.returncode != 0 and not tolerate:
        raise SystemStateError(
            f"systemctl {' '.join(arguments[:2])} failed: {(done.stderr or done.stdout).strip()}"
        )
    return done.stdout


def _start(step: Step, waiting: Sequence[str]) -> None:
    systemctl("reset-failed", "--", step.unit, tolerate=True)
    try:
        systemctl(*waiting, step.verb, "--", step.unit)
    except SystemStateError as error:
        raise SystemStateError(f"{error}\n{_journal(step.unit)}") from error


def _journal(unit: str) -> str:
    done = subprocess.run(
        ["journalctl", "--no-pager", "--lines=15", "--output=cat", f"--unit={unit}"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    return f"last lines of {unit}:\n{done.stdout.strip()}"


def _state(name: str, block: str) -> UnitState:
    fields = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
    return UnitState(
        name=name,
        loaded=fields.get("LoadState") == "loaded",
        masked=fields.get("LoadState") == "masked",
        active=fields.get("ActiveState") in {"active", "activating", "reloading"},
        enabled=fields.get("UnitFileState") in _ENABLED,
        needs_reload=fields.get("NeedDaemonReload") == "yes",
        # The moment it left "inactive": a program reads its files after that, however long its
        # start takes.
        started=_seconds(fields.get("InactiveExitTimestamp", "")),
    )


def _seconds(text: str) -> float:
    if not text:
        return 0.0
    try:
        moment = dt.datetime.strptime(text, "%a %Y-%m-%d %H:%M:%S.%f %Z")
    except ValueError as error:
        raise SystemStateError(f"systemctl wrote a time that cannot be read: '{text}'") from error
    return moment.replace(tzinfo=dt.UTC).timestamp()
