"""Follows the kernel's messages through journalctl, from behind a cursor."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
from collections.abc import Iterator
from typing import Final

COMMAND: Final = (
    "journalctl",
    "--dmesg",
    "--follow",
    "--output=json",
    "--no-pager",
    "--quiet",
)
_PIECE: Final = 1 << 20
_LINE_LIMIT: Final = 1 << 20


class Follower:
    """One journalctl process; `messages` gives what there is, without blocking longer than told."""

    def __init__(self, command: tuple[str, ...] = COMMAND) -> None:
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None
        self._rest = b""

    def start(self, cursor: str) -> None:
        """Follow from behind an entry of this boot, or from the boot on."""
        self._run("--lines=all", *([f"--after-cursor={cursor}"] if cursor else []))

    def start_now(self) -> None:
        """Follow what is written from now on, where the place in the journal is lost."""
        self._run("--lines=0")

    def _run(self, *options: str) -> None:
        self.stop()
        command = [*self._command, *options]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        self._rest = b""

    def stop(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            if self._process.stdout is not None:
                self._process.stdout.close()
            self._process = None

    def messages(self, timeout: float | None) -> list[tuple[str, str]] | None:
        """Return pairs of cursor and text, empty after the timeout; None if the process ended."""
        stream = self._process.stdout if self._process is not None else None
        if stream is None:
            return None
        with selectors.DefaultSelector() as selector:
            selector.register(stream, selectors.EVENT_READ)
            if not selector.select(timeout):
                return []
        piece = os.read(stream.fileno(), _PIECE)
        if not piece:
            self.stop()
            return None
        *lines, self._rest = (self._rest + piece).split(b"\n")
        self._rest = self._rest if len(self._rest) <= _LINE_LIMIT else b""
        return list(_read(lines))


def _read(lines: list[bytes]) -> Iterator[tuple[str, str]]:
    for line in lines:
        try:
            entry = json.loads(line)
            cursor, message = entry["__CURSOR"], entry["MESSAGE"]
        except (ValueError, KeyError, TypeError):
            continue
        # journalctl writes texts that are no UTF-8 as numbers.
        text = bytes(message).decode("utf-8", "replace") if isinstance(message, list) else message
        if isinstance(text, str):
            yield str(cursor), text
