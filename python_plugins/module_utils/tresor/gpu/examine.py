"""Read what health is judged by, beside the facts: logs, counters, diagnosis, bandwidth."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

from .commands import Outcome, Runner
from .diag import parse_all_reduce, parse_diag
from .fabric_manager import UNIT
from .health import Read
from .values import ReadingError
from .xid import judge, parse_log

MODULE: Final = ("modinfo", "-F", "version", "nvidia")
KERNEL_LOG: Final = ("journalctl", "-k", "-b", "0", "-o", "cat", "--no-pager", "-q")
NVLINK_ERRORS: Final = ("nvidia-smi", "nvlink", "-e")
FABRIC_LOG: Final = ("tail", "-c", "4194304", "/var/log/fabricmanager.log")
FABRIC_JOURNAL: Final = ("journalctl", "-u", UNIT, "-b", "0", "-o", "cat", "--no-pager", "-q")
"""The Fabric Manager writes a file unless it is told to use the system's log."""
_GPU: Final = re.compile(r"GPU (\d+):")
_COUNT: Final = re.compile(r"\s+Link \d+: (?P<kind>[A-Za-z ]+?)(?: Errors?)?: (?P<count>\d+)\s*")
_KINDS: Final = frozenset({"replay", "recovery", "crc"})
_STAMP: Final = re.compile(r"\[([A-Z][a-z]{2} \d{2} \d{4} \d{2}:\d{2}:\d{2})\]")
_STAMP_FORM: Final = "%b %d %Y %H:%M:%S"
_T = TypeVar("_T")


def diag_command(level: int) -> tuple[str, ...]:
    """Return the command of a diagnosis; level 1 takes seconds, 2 two minutes, 3 a quarter hour."""
    return ("dcgmi", "diag", "-r", str(level), "-j")


def bus_command(gpus: int) -> tuple[str, ...]:
    """Return the command of an all-reduce over a number of GPUs."""
    return ("all_reduce_perf", "-b", "8", "-e", "8G", "-f", "2", "-g", str(gpus))


def examine(
    run: Runner,
    run_long: Runner,
    *,
    gpus: int,
    fabric: bool,
    nvlink: bool,
    diag_level: int,
    bus: bool,
    usual_bus_gb_s: float | None,
    booted: dt.datetime | None = None,
) -> Read:
    """Return what was read. Nothing raises: what could not be read stands in `faults`.

    `run_long` runs the diagnosis and the all-reduce. `booted` is local time: what the Fabric
    Manager wrote before is history. A diagnosis may exit with a status and still have printed its
    results, so only its output counts.
    """
    reader = _Reader()
    return Read(
        module_version=reader.read("module", run(MODULE), str.strip),
        verdicts=reader.read("xid", run(KERNEL_LOG), lambda text: judge(parse_log(text))),
        nvlink_errors=(
            reader.read("nvlink_errors", run(NVLINK_ERRORS), parse_nvlink_errors)
            if nvlink
            else None
        ),
        fabric_log=_fabric_log(run, reader, booted) if fabric else None,
        diag=(
            reader.read("diag", _printed(run_long(diag_command(diag_level))), parse_diag)
            if diag_level
            else None
        ),
        bus=reader.read("bus", run_long(bus_command(gpus)), parse_all_reduce) if bus else None,
        usual_bus_gb_s=usual_bus_gb_s,
        asked=frozenset(["diag"] * (diag_level > 0) + ["bus"] * bus),
        faults=reader.faults,
    )


class _Reader:
    def __init__(self) -> None:
        self.faults: dict[str, str] = {}

    def read(self, name: str, outcome: Outcome, parse: Callable[[str], _T]) -> _T | None:
        if not outcome.ok:
            self.faults[name] = outcome.problem
            return None
        try:
            return parse(outcome.stdout)
        except ReadingError as error:
            self.faults[name] = str(error)
            return None


def _fabric_log(run: Runner, reader: _Reader, booted: dt.datetime | None) -> str | None:
    """Return what the Fabric Manager wrote since the boot; None if it can be read nowhere."""
    file, journal = run(FABRIC_LOG), run(FABRIC_JOURNAL)
    if not file.ok and not journal.ok:
        reader.faults["fabric_log"] = file.problem
        return None
    kept = since_boot(file.stdout, booted) if file.ok else ""
    return kept + (journal.stdout if journal.ok else "")


def since_boot(text: str, booted: dt.datetime | None) -> str:
    """Return the lines with a time after the boot, and those without one that follow them."""
    kept: list[str] = []
    fresh = booted is None
    for line in text.splitlines(keepends=True):
        match = _STAMP.match(line)
        if match and booted is not None:
            fresh = dt.datetime.strptime(match[1], _STAMP_FORM) >= booted
        if fresh:
            kept.append(line)
    return "".join(kept)


def booted_at(now: dt.datetime, uptime: Path = Path("/proc/uptime")) -> dt.datetime | None:
    """Return when the host was booted, in the zone of `now`; None if the kernel does not say."""
    try:
        return now - dt.timedelta(seconds=float(uptime.read_text(encoding="ascii").split()[0]))
    except (OSError, ValueError, IndexError):
        return None


def _printed(outcome: Outcome) -> Outcome:
    return Outcome(0, outcome.stdout) if outcome.status is not None else outcome


def parse_nvlink_errors(text: str) -> dict[int, dict[str, int]]:
    """Return the sums of each kind of error by GPU; kinds that nobody judges are left out."""
    found: dict[int, dict[str, int]] = {}
    current: dict[str, int] | None = None
    for line in text.splitlines():
        gpu = _GPU.match(line)
        if gpu:
            current = found.setdefault(int(gpu[1]), {})
            continue
        match = _COUNT.fullmatch(line)
        if match and current is not None:
            word = match["kind"].split()[0].lower()
            if word in _KINDS:
                current[word] = current.get(word, 0) + int(match["count"])
    if not found:
        raise ReadingError("nvidia-smi nvlink -e names no GPU")
    return found


def needs(facts: dict[str, Any]) -> tuple[int, bool, bool]:
    """Return how many GPUs there are, whether there is a fabric, and whether there is NVLink."""
    gpus = facts["gpus"]
    nvlink = any(gpu["nvlinks"] and gpu["nvlinks"]["total"] for gpu in gpus)
    return len(gpus), bool(facts["fabric_manager"]["needed"]), nvlink
