"""Run a command in a child that dies by SIGKILL at its n-th durable step."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tresor.bundle import journal

_SYSTEM_CALLS = ("fsync", "fdatasync", "replace", "rename", "link", "unlink", "mkdir", "rmdir")


class _Fuse:
    """Burns down with every step; at its end the process is gone."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def burn(self) -> None:
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        self.left -= 1


def _around(function: Callable[..., Any], fuse: _Fuse) -> Callable[..., Any]:
    def wrapped(*values: Any, **options: Any) -> Any:
        fuse.burn()
        result = function(*values, **options)
        fuse.burn()
        return result

    return wrapped


def survives(steps: int, command: Callable[[], object], *, every_call: bool = False) -> bool:
    """Tell whether ``command`` ends before its ``steps``-th step; it runs in a child.

    Steps are the appends to journal and events, before and after each; with ``every_call`` also
    everything that changes a folder or waits for the disk.
    """
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            fuse = _Fuse(steps)
            journal.AppendLog.append = _around(journal.AppendLog.append, fuse)  # type: ignore[method-assign]
            if every_call:
                for name in _SYSTEM_CALLS:
                    setattr(os, name, _around(getattr(os, name), fuse))
            command()
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return False
    assert os.WEXITSTATUS(status) == 0, "the command failed by itself"
    return True


def tree_of(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder with its content."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
