"""Replace a file so that whoever reads it finds the old or the new one whole."""

from __future__ import annotations

import os
from pathlib import Path


def write_whole(path: Path, text: str, *, sync: bool = False, mode: int = 0o600) -> None:
    """Replace a file, with exactly that mode whatever the umask is.

    With `sync` a crash leaves the old or the new one, on disk before this returns.
    """
    fresh = path.with_name(f".{path.name}.new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        os.fchmod(stream.fileno(), mode)
        stream.write(text)
        stream.flush()
        if sync:
            os.fsync(stream.fileno())
    fresh.replace(path)
