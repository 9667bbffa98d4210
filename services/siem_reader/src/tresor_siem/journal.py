"""Follows the journal through ``journalctl``, from behind a cursor, without ever blocking."""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any

_PIECE = 1024 * 1024
_COMMAND = (
    "/usr/bin/journalctl",
    "--follow",
    # Without it --follow means the present boot alone, and what was written last before a reboot
    # would be left out.
    "--merge",
    "--lines=all",
    "--all",
    "--output=json",
    "--no-pager",
    "--quiet",
)


class Journal:
    """One journalctl process; begun anew from the last kept entry when it ends."""

    def __init__(self, command: tuple[str, ...] = _COMMAND) -> None:
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None
        self._rest = b""

    def fileno(self) -> int | None:
        """Return the descriptor to wait for, or None while no process runs."""
        if self._process is None or self._process.stdout is None:
            return None
        return self._process.stdout.fileno()

    def start(self, cursor: str | None) -> None:
        """Follow from behind an entry, or from the oldest one."""
        self.stop()
        command = list(self._command)
        if cursor:
            command.append(f"--after-cursor={cursor}")
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        if self._process.stdout is not None:
            os.set_blocking(self._process.stdout.fileno(), False)
        self._rest = b""

    def read(self) -> list[dict[str, Any]] | None:
        """Return whole entries that are there now, or None when the process has ended."""
        descriptor = self.fileno()
        if descriptor is None:
            return None
        try:
            data = os.read(descriptor, _PIECE)
        except BlockingIOError:
            return []
        if not data:
            self.stop()
            return None
        *lines, self._rest = (self._rest + data).split(b"\n")
        entries = []
        for line in lines:
            try:
                entry = json.loads(line)
            except ValueError:
                # Not an entry: journalctl's own words. Its positions are the entries around it.
                continue
            if isinstance(entry, dict) and "__CURSOR" in entry:
                entries.append(entry)
        return entries

    def stop(self) -> None:
        """End the process; what it had not delivered comes again."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            if self._process.stdout is not None:
                self._process.stdout.close()
            self._process = None
        self._rest = b""


def sequence(cursor: str) -> tuple[str, int] | None:
    """Return a cursor's sequence: its name and the entry's number in it; None where it has none.

    Numbers rise by one from entry to entry, so a jump shows entries that were removed unread.
    """
    parts = dict(part.partition("=")[::2] for part in cursor.split(";"))
    try:
        return parts["s"], int(parts["i"], 16)
    except (KeyError, ValueError):
        return None
