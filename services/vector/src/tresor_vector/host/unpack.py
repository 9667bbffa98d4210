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


def unpack(source: Path, release: Path) -> int:
    """Unpack ``source/*.lzma`` to ``release/bin``; return the number of files.

    ``release`` appears whole or not at all and is not touched again.

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
    return len(packed)
