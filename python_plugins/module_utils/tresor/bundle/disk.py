"""Small disk helpers of the importer and of the store's clients; needs nothing beside Python."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from .errors import EnvironmentNotReadyError


def check_space(folder: Path, needed: int) -> None:
    """Refuse to begin what cannot end; ``needed`` in bytes.

    Raises:
        EnvironmentNotReadyError: rule ``space.missing``.
    """
    info = os.statvfs(folder)
    free = info.f_bavail * info.f_frsize
    if free < needed:
        raise EnvironmentNotReadyError(
            "space.missing",
            f"{needed:,} bytes are needed, {free:,} are free; free {needed - free:,} bytes and "
            "repeat the command",
            str(folder),
        )


def remove_tree(path: Path) -> None:
    """Remove a folder that may hold read-only folders."""
    for folder, _, _ in os.walk(path):
        Path(folder).chmod(0o700)
    shutil.rmtree(path)
