"""Two append-only records: the state machine's journal and the audit events.

Each line is JSON, names the SHA-256 of the line before it, and is on disk before the step it
announces begins. A line cut by a power loss is dropped when the file is opened again.
"""

from __future__ import annotations

import json
import os
import syslog
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from .canonical import dump_canonical, sha256_hex
from .errors import EnvironmentNotReadyError

Value = str | int | bool | None | list[str]
GENESIS = "0" * 64


class AppendLog:
    """A chained JSON-lines file, opened by one importer at a time (the caller holds the lock)."""

    def __init__(self, path: Path, identifier: str | None = None) -> None:
        """Open the log; with an identifier each line also goes to the system's log."""
        self.path = path
        self._last = GENESIS
        self._identifier = identifier
        if path.exists():
            self._repair()

    def _repair(self) -> None:
        raw = self.path.read_bytes()
        complete = raw[: raw.rfind(b"\n") + 1]
        if complete != raw:
            with self.path.open("r+b") as stream:
                stream.truncate(len(complete))
                os.fsync(stream.fileno())
        lines = complete.splitlines()
        if lines:
            self._last = sha256_hex(lines[-1])

    def append(self, record: Mapping[str, Value]) -> None:
        """Add one line and wait until it is on disk."""
        line = dump_canonical({**record, "time": utc_now_text(), "prev": self._last})
        try:
            with self.path.open("ab") as stream:
                stream.write(line + b"\n")
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as error:
            raise EnvironmentNotReadyError(
                "state.write", f"cannot append: {error.strerror}", str(self.path)
            ) from error
        self._last = sha256_hex(line)
        if self._identifier is not None:
            # From there it is forwarded; a host without a system log has only the file.
            syslog.openlog(self._identifier, syslog.LOG_PID, syslog.LOG_AUTHPRIV)
            syslog.syslog(syslog.LOG_NOTICE, line.decode())

    def read(self) -> list[dict[str, Value]]:
        """Return all records.

        Raises:
            EnvironmentNotReadyError: rule ``state.chain``: a line does not name its predecessor.
        """
        return read_log(self.path)


def read_log(path: Path) -> list[dict[str, Value]]:
    """Read a log without changing it; an incomplete last line is left out."""
    if not path.exists():
        return []
    records: list[dict[str, Value]] = []
    previous = GENESIS
    raw = path.read_bytes()
    for number, line in enumerate(raw[: raw.rfind(b"\n") + 1].splitlines(), 1):
        try:
            record = json.loads(line)
            chained = record["prev"] == previous
        except (ValueError, KeyError, TypeError):
            chained = False
        if not chained:
            raise EnvironmentNotReadyError(
                "state.chain",
                f"line {number} does not follow from the line before: the file was changed by "
                "hand. Keep it as evidence and ask before going on",
                str(path),
            )
        records.append(record)
        previous = sha256_hex(line)
    return records


def utc_now_text() -> str:
    """Return now as ``2026-11-23T12:00:00Z``."""
    return time_text(datetime.now(UTC))


def time_text(moment: datetime) -> str:
    """Return a time as ``2026-11-23T12:00:00Z``."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_time(text: str) -> datetime:
    """Read what :func:`time_text` wrote."""
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
