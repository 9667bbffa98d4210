"""Run programs with their output passed on, and stop with a readable error when one fails."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
BUILD = REPOSITORY / "build"
LABCTL = REPOSITORY / "molecule" / "lab" / "labctl"


class StageError(Exception):
    """A stage failed; the message names the stage, the exit code and where to look."""


def run(command: Sequence[str], *, what: str, stdin: bytes | None = None) -> None:
    """Run ``command`` with its output on the screen.

    Raises:
        StageError: the exit code was not 0.
    """
    sys.stdout.flush()
    source = subprocess.DEVNULL if stdin is None else None
    done = subprocess.run(command, input=stdin, stdin=source, cwd=REPOSITORY, check=False)
    if done.returncode:
        raise StageError(f"{what} failed with exit code {done.returncode}: {_shown(command)}")


def output(command: Sequence[str], *, what: str) -> str:
    """Run ``command`` and return its standard output as text.

    Raises:
        StageError: the exit code was not 0; the message carries the end of standard error.
    """
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, cwd=REPOSITORY, check=False
    )
    if done.returncode:
        tail = done.stderr.decode(errors="replace")[-2000:]
        raise StageError(
            f"{what} failed with exit code {done.returncode}: {_shown(command)}\n{tail}"
        )
    return done.stdout.decode(errors="replace")


def lab(*arguments: str) -> list[str]:
    """Return the command line of the lab tool for this checkout."""
    return [str(LABCTL), *arguments]


def on_host(host: str, *command: str) -> list[str]:
    """Return the command line that runs ``command`` as root on a lab host's console."""
    return lab("exec", host, *command)


def python(*arguments: str) -> list[str]:
    """Return a command line for this environment's Python."""
    return [sys.executable, *arguments]


def put(host: str, path: str, content: bytes, *, mode: str = "0644") -> None:
    """Write ``content`` to ``path`` on a lab host."""
    run(
        on_host(host, "install", "-D", "-m", mode, "/dev/stdin", path),
        what=f"write {path} on {host}",
        stdin=content,
    )


def _shown(command: Sequence[str]) -> str:
    text = " ".join(command)
    limit = 300
    return text if len(text) <= limit else f"{text[:limit]} ..."


def in_ci() -> bool:
    """Return True where nobody watches the screen."""
    return os.environ.get("CI", "") not in {"", "0", "false"}
