"""The version stamp of a data directory: which program opened it last.

A newer Milvus may write what an older one misreads, so an older one is kept away from it.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any, Final

from tresor_vector.errors import DataRefusedError

NAME: Final = "tresor-version.json"
_VERSION: Final = re.compile(r"\d+(\.\d+){1,3}")
_HISTORY: Final = 20


def parse(version: str) -> tuple[int, ...]:
    """Return a version as numbers.

    Raises:
        DataRefusedError: not a dotted version.
    """
    if not _VERSION.fullmatch(version):
        raise DataRefusedError(f"version {version!r}: write numbers with dots, such as 2.6.9")
    return tuple(int(part) for part in version.split("."))


def claim(directory: Path, form: str, version: str) -> str | None:
    """Put this program's version on ``directory``; return the version found there before.

    The stamp moves before the program opens the data: from then on an older one must not.

    Raises:
        DataRefusedError: the data is newer, of the other form, or nobody knows what wrote it.
    """
    wanted = parse(version)
    path = directory / NAME
    if not path.exists():
        _refuse_unknown(directory, form, version)
        _write(path, {"form": form, "version": version, "before": []})
        return None
    found = _read(path)
    if found["form"] != form:
        raise DataRefusedError(
            f"{directory} holds data of Milvus {found['form']}, the program is Milvus {form}. "
            "Give each form its own directory; back up collections and restore them to move."
        )
    before = str(found["version"])
    if parse(before) > wanted:
        raise DataRefusedError(
            f"{directory} was written by Milvus {before}, which is newer than this program "
            f"({version}). Install {before} or newer, or restore a backup into an empty directory."
        )
    if before != version:
        history = [*found["before"], before][-_HISTORY:]
        _write(path, {"form": form, "version": version, "before": history})
    return before


def _refuse_unknown(directory: Path, form: str, version: str) -> None:
    if any(entry.name != NAME for entry in directory.iterdir()):
        content = json.dumps({"form": form, "version": version, "before": []})
        raise DataRefusedError(
            f"{directory} holds data without {NAME}, so nobody knows which version wrote it. If it "
            f"was Milvus {form} {version} or older, write this into that file: {content}"
        )


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {
            "form": str(found["form"]),
            "version": str(found["version"]),
            "before": [str(entry) for entry in found["before"]],
        }
    except (ValueError, KeyError, TypeError) as error:
        raise DataRefusedError(
            f"{path} is damaged ({error}). Write the form and the newest version that opened "
            'this directory: {"form": "lite", "version": "3.2.2", "before": []}'
        ) from error


def _write(path: Path, content: dict[str, Any]) -> None:
    partial = path.with_name(f"{path.name}.new")
    with partial.open("w", encoding="utf-8") as file:
        file.write(json.dumps(content, sort_keys=True) + "\n")
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
