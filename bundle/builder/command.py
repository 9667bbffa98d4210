"""Run the package clients: argument lists, a clear error with the end of their output."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from bundle.builder.errors import CommandError

_TAIL_LINES = 12


def run(
    args: Sequence[str],
    *,
    what: str,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: str | None = None,
    timeout: float = 1800,
) -> str:
    """Run ``args`` and return its standard output.

    Args:
        args: program and arguments.
        what: the step in words, for the error message.
        cwd: working directory.
        env: variables added to the inherited environment.
        stdin: text for standard input; empty when absent.
        timeout: seconds until the program is killed.

    Raises:
        CommandError: not found, too slow, or a non-zero exit status.
    """
    try:
        done = subprocess.run(
            list(args),
            cwd=cwd,
            env={**os.environ, "LC_ALL": "C.UTF-8", **(env or {})},
            input=stdin or "",
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
    except FileNotFoundError as error:
        raise CommandError(f"{what}: program {args[0]!r} is not installed") from error
    except subprocess.TimeoutExpired as error:
        raise CommandError(f"{what}: {args[0]} took longer than {timeout:.0f} s") from error
    if done.returncode != 0:
        tail = "\n  ".join((done.stderr or done.stdout).strip().splitlines()[-_TAIL_LINES:])
        raise CommandError(f"{what}: {args[0]} ended with status {done.returncode}:\n  {tail}")
    return done.stdout


def uv_program() -> str:
    """Return uv of the builder's own environment, or the one on PATH."""
    beside = Path(sys.executable).with_name("uv")
    return str(beside) if beside.exists() else "uv"
