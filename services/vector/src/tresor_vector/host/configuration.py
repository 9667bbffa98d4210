"""The configuration file that the real server reads, with the guard's word in it.

The server reads its file again every few seconds. The file under /etc refuses writes; the copy it
really reads lets them pass while the guard says so, so that a lost guard means read-only.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

from tresor_vector.errors import VectorError

_SHUT: Final = "forceDeny: true"
_FILE: Final = "milvus.yaml"


def write(base: Path, effective: Path, *, is_open: bool) -> bool:
    """Bring the copy to the wanted state; return whether it changed.

    Raises:
        VectorError: the file under /etc does not refuse writes exactly once.
    """
    text = (base / _FILE).read_text(encoding="utf-8")
    if text.count(_SHUT) != 1:
        raise VectorError(
            f"{base / _FILE} contains {_SHUT!r} {text.count(_SHUT)} times, expected once. "
            "Converge the host again."
        )
    wanted = text.replace(_SHUT, "forceDeny: false") if is_open else text
    target = effective / _FILE
    if target.exists() and target.read_text(encoding="utf-8") == wanted:
        return False
    for other in base.iterdir():
        if other.name != _FILE and other.is_file():
            shutil.copyfile(other, effective / other.name)
    partial = effective / f".{_FILE}.new"
    partial.write_text(wanted, encoding="utf-8")
    partial.replace(target)
    return True
