"""What is kept of an engine that hangs: its metrics, its unit, its processes and their states."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from tresor.system.whole_file import write_whole
from tresor_engine_watchdog.unit import Shown

KEPT: Final = 20
"""So many files of evidence are kept; the oldest go."""
_METRICS_LIMIT: Final = 1024 * 1024


@dataclass(frozen=True)
class Task:
    """A process or thread; `state` as the kernel says it: R runs, S sleeps, D waits in a driver."""

    pid: int
    name: str
    state: str
    parent: int


def processes(main_pid: int, proc: Path = Path("/proc")) -> list[str]:
    """Return a line for the unit's main process and each below it, with its threads' states."""
    if main_pid <= 0:
        return []
    tasks = {task.pid: task for task in _tasks(proc)}
    inside = {main_pid}
    grown = True
    while grown:
        more = {pid for pid, task in tasks.items() if task.parent in inside} - inside
        grown = bool(more)
        inside |= more
    return [_line(tasks[pid], proc) for pid in sorted(inside) if pid in tasks]


def _tasks(folder: Path) -> Iterator[Task]:
    """Yield the processes of /proc, or the threads of a process."""
    try:
        names = [path for path in folder.iterdir() if path.name.isdecimal()]
    except OSError:
        return
    for path in names:
        try:
            text = (path / "stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue  # it ended meanwhile
        head, _, rest = text.rpartition(")")
        fields = rest.split()
        if len(fields) > 1:
            yield Task(int(path.name), head.partition("(")[2], fields[0], int(fields[1]))


def _line(task: Task, proc: Path) -> str:
    counts: dict[str, int] = {}
    for thread in _tasks(proc / str(task.pid) / "task"):
        counts[thread.state] = counts.get(thread.state, 0) + 1
    threads = ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
    return f"{task.pid} {task.name} (parent {task.parent}): {task.state}; threads: {threads}"


def keep(
    folder: Path, instance: str, shown: Shown, *, why: str, metrics: str | None, now: float
) -> Path:
    """Write one file of evidence, for root alone, and forget the oldest; return its path.

    Metrics hold no prompts and no answers.
    """
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
    path = folder / f"{instance}-{stamp}.txt"
    lines = [
        f"{instance}: {why}",
        *(f"{key}: {value}" for key, value in asdict(shown).items()),
        *processes(shown.main_pid),
        "metrics:",
        (metrics or "none: they were not told in time")[:_METRICS_LIMIT],
    ]
    write_whole(path, "\n".join(lines) + "\n")
    old = sorted(folder.glob("*.txt"), key=lambda one: one.stat().st_mtime)
    for one in old[:-KEPT]:
        one.unlink(missing_ok=True)
    return path
