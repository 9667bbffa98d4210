"""Unpack the server out of an installed wheel into a release of its own."""

from __future__ import annotations

import lzma
import os
import shutil
from pathlib import Path
from typing import Final

from tresor_vector.errors import VectorError

_SUFFIX: Final = ".lzma"
_PROGRAM: Final = "milvus"


def unpack(source: Path, release: Path, keep: int = 1) -> int:
    """Unpack ``source/*.lzma`` to ``release/bin``; return the number of files.

    ``release`` appears whole or not at all and is not touched again. Of the releases before it stay
    the one that ``current`` points at and the newest, ``keep`` in all.

    Raises:
        VectorError: there is no server in ``source``.
    """
    packed = sorted(source.glob(f"*{_SUFFIX}"))
    if not any(path.name == _PROGRAM + _SUFFIX for path in packed):
        raise VectorError(f"{source} holds no {_PROGRAM}{_SUFFIX}: this wheel has no server")
    partial = release.with_name(f".{release.name}.new")
    shutil.rmtree(partial, ignore_errors=True)
    (partial / "bin").mkdir(parents=True)
    for path in packed:
        target = partial / "bin" / path.name.removesuffix(_SUFFIX)
        with lzma.open(path) as read, target.open("xb") as write:
            shutil.copyfileobj(read, write, 1 << 20)
            write.flush()
            os.fsync(write.fileno())
        target.chmod(0o755)
    partial.replace(release)
    _remove_older(release, keep)
    return len(packed)


def _remove_older(release: Path, keep: int) -> None:
    current = release.parent / "current"
    running = current.resolve() if current.is_symlink() else None
    others = [
        path
        for path in release.parent.iterdir()
        if path.is_dir() and not path.is_symlink() and path != release
    ]
    others.sort(key=lambda path: (path == running, path.stat().st_mtime), reverse=True)
    for path in others[keep:]:
        shutil.rmtree(path)
