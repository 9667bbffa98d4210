"""Run a reading command with a limit in time and size."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

OUTPUT_LIMIT: Final = 16 * 1024 * 1024
"""Bytes of output that are kept."""
_REAP_S: Final = 2.0
"""A process that waits in the kernel for a dead GPU survives SIGKILL; it is left behind."""


@dataclass(frozen=True)
class Outcome:
    """What a command gave: exit status, text, and why there is none.

    `status` is None when the command could not be started or did not end in time.
    """

    status: int | None
    stdout: str
    problem: str = ""
    absent: bool = False
    """Whether the program is not installed."""

    @property
    def ok(self) -> bool:
        """Return whether the command ended well."""
        return self.status == 0 and not self.problem


Runner = Callable[[Sequence[str]], Outcome]


def runner(timeout_s: float) -> Runner:
    """Return a runner whose every command ends within the time."""
    return lambda command: run_command(command, timeout_s)


def run_command(command: Sequence[str], timeout_s: float) -> Outcome:
    """Run a command without a shell, in the C locale, with no input; never raises."""
    environment = {**os.environ, "LC_ALL": "C"}
    try:
        process = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
        )
    except FileNotFoundError:
        return Outcome(None, "", f"{command[0]} is not installed", absent=True)
    except OSError as error:
        return Outcome(None, "", f"{command[0]} cannot be started: {error.strerror}")
    try:
        raw, _ = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        return Outcome(None, "", f"no answer within {timeout_s:g} s{_end(process)}")
    if len(raw) > OUTPUT_LIMIT:
        return Outcome(None, "", f"{len(raw)} bytes of output, more than {OUTPUT_LIMIT}")
    text = raw.decode("utf-8", errors="replace")
    problem = "" if process.returncode == 0 else _said(process.returncode, text)
    return Outcome(process.returncode, text, problem)


def _end(process: subprocess.Popen[bytes]) -> str:
    process.kill()
    if process.stdout:
        process.stdout.close()
    try:
        process.wait(_REAP_S)
    except subprocess.TimeoutExpired:
        return f"; process {process.pid} hangs in the driver even after SIGKILL: reboot the host"
    return ""


def _said(status: int, text: str) -> str:
    """Return the exit status and the first lines of what the command said."""
    lines = [line.strip() for line in text.splitlines() if line.strip()][:2]
    return f"exit status {status}: {' '.join(lines) or 'no message'}"[:300]
