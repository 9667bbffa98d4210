"""Write reports so that a reader never sees half of one."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

LATEST = "latest.json"
LATEST_FULL = "latest-full.json"
FULL_SCOPE = frozenset({"network", "request_path"})
"""A report of these parts at least is a full one; the control runs only where a host is named."""


def stamp(seconds: float) -> str:
    """Return UTC time in ISO 8601 with whole seconds."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def write_report(report: Mapping[str, Any], directory: Path, finished: float) -> Path:
    """Write the report under its time, point ``latest.json`` at it, and return its path.

    A report with the network and the request path becomes ``latest-full.json`` too. An older
    report is never overwritten: a second one within the same second gets a suffix.

    Raises:
        OSError: the directory cannot be written.
    """
    directory.mkdir(mode=0o750, parents=True, exist_ok=True)
    name = datetime.fromtimestamp(finished, UTC).strftime("%Y%m%dT%H%M%SZ")
    temporary = directory / f".{name}.{os.getpid()}"
    text = json.dumps(report, indent=1, ensure_ascii=False) + "\n"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        path = _link_new(temporary, directory, name)
    finally:
        temporary.unlink(missing_ok=True)
    _point(directory / LATEST, path.name)
    if set(report["scope"]) >= FULL_SCOPE:
        _point(directory / LATEST_FULL, path.name)
    return path


def _point(link: Path, name: str) -> None:
    """Make the link lead to the name, without a moment in which it leads nowhere."""
    temporary = link.with_name(f".{link.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(name)
    temporary.replace(link)


def _link_new(temporary: Path, directory: Path, name: str) -> Path:
    """Give the file its name without ever replacing another report."""
    number = 1
    while True:
        path = directory / (f"{name}.json" if number == 1 else f"{name}-{number}.json")
        try:
            path.hardlink_to(temporary)
        except FileExistsError:
            number += 1
            continue
        return path
