"""The record of one run: a directory of ansible-runner events plus one summary file."""

from __future__ import annotations

import json
import os
import shutil
import syslog
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

SUMMARY = "record.json"
_COUNTERS = ("ok", "changed", "failures", "dark", "skipped", "rescued", "ignored")


@dataclass(frozen=True)
class RunRecord:
    """What a run was asked to do and how it ended; times are UTC seconds since the epoch."""

    id: str
    playbook: str
    arguments: tuple[str, ...]
    started: float
    ended: float
    status: str
    rc: int
    release: str | None
    hosts: dict[str, dict[str, int]] = field(default_factory=dict)

    @property
    def changed(self) -> int:
        """Number of changed tasks over all hosts."""
        return sum(counters.get("changed", 0) for counters in self.hosts.values())

    def as_json(self) -> dict[str, Any]:
        """Return the record as JSON-ready data, with the derived totals."""
        return {
            **asdict(self),
            "changed": self.changed,
            "seconds": round(self.ended - self.started, 1),
        }


def host_counters(stats: dict[str, dict[str, int]] | None) -> dict[str, dict[str, int]]:
    """Turn ansible-runner's counter -> host -> n into host -> counter -> n."""
    hosts: dict[str, dict[str, int]] = {}
    for counter in _COUNTERS:
        for host, number in ((stats or {}).get(counter) or {}).items():
            hosts.setdefault(host, dict.fromkeys(_COUNTERS, 0))[counter] = number
    return hosts


def write(record: RunRecord, run_dir: Path) -> Path:
    """Write the summary durably: a reader sees the whole file or none."""
    target = run_dir / SUMMARY
    temporary = target.with_suffix(".part")
    with temporary.open("w", encoding="utf-8") as stream:
        json.dump(record.as_json(), stream, indent=2, sort_keys=True)
        stream.write("\n")
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(target)
    return target


def announce(record: RunRecord) -> None:
    """Write one line to the system's log, from where it is forwarded.

    Without the arguments: somebody may have passed a secret as a variable.
    """
    content = {key: value for key, value in record.as_json().items() if key != "arguments"}
    content |= {"action": record.playbook, "outcome": "success" if record.rc == 0 else "failure"}
    syslog.openlog("tresor-run", syslog.LOG_PID, syslog.LOG_AUTHPRIV)
    priority = syslog.LOG_NOTICE if record.rc == 0 else syslog.LOG_WARNING
    syslog.syslog(priority, json.dumps(content, sort_keys=True))


def read_all(runs: Path) -> list[dict[str, Any]]:
    """Return the summaries under ``runs``, oldest first; a run that died has status ``died``."""
    found: list[dict[str, Any]] = []
    if not runs.is_dir():
        return found
    for run_dir in sorted(p for p in runs.iterdir() if p.is_dir()):
        summary = run_dir / SUMMARY
        if summary.is_file():
            found.append(json.loads(summary.read_text(encoding="utf-8")))
        else:
            found.append({"id": run_dir.name, "playbook": "?", "status": "died", "rc": None})
    return found


def prune(runs: Path, keep: int) -> list[str]:
    """Remove the oldest run directories beyond ``keep``; return their ids."""
    directories = sorted(p for p in runs.iterdir() if p.is_dir()) if runs.is_dir() else []
    surplus = directories[: max(0, len(directories) - keep)]
    for run_dir in surplus:
        shutil.rmtree(run_dir)
    return [run_dir.name for run_dir in surplus]
