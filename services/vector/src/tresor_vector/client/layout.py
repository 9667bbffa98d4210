"""What a backup looks like on disk, and whether one is whole.

``manifest.json`` names every file with its size and digest, ``manifest.json.sha256`` vouches for
the manifest. Files are written once, the manifest last: a backup without it never finished.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from tresor_vector.errors import BackupError

FORMAT: Final = 1
MANIFEST: Final = "manifest.json"
_DIGEST: Final = "manifest.json.sha256"
_MANIFEST_BYTES: Final = 16 * 1024 * 1024
_NAME: Final = re.compile(r"rows-\d{5}\.jsonl")
ROW_BYTES: Final = 64 * 1024 * 1024
"""Longest line of a row file; a server takes no larger row."""


def digest(path: Path) -> str:
    """Return the SHA-256 of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_manifest(folder: Path, content: dict[str, Any]) -> None:
    """Finish a backup."""
    text = json.dumps(content, indent=1, sort_keys=True) + "\n"
    _write(folder / MANIFEST, text)
    _write(folder / _DIGEST, f"{hashlib.sha256(text.encode()).hexdigest()}  {MANIFEST}\n")


def _write(path: Path, text: str) -> None:
    with path.open("x", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest after checking every file of the backup against it.

    Raises:
        BackupError: unfinished, damaged or of a newer format.
    """
    path = folder / MANIFEST
    if not path.is_file() or not (folder / _DIGEST).is_file():
        raise BackupError(f"{folder} has no {MANIFEST} or no {_DIGEST}: not a finished backup")
    if path.stat().st_size > _MANIFEST_BYTES:
        raise BackupError(f"{path} is larger than {_MANIFEST_BYTES} bytes: damaged")
    said = (folder / _DIGEST).read_text(encoding="utf-8").split()[:1]
    if said != [digest(path)]:
        raise BackupError(f"{path} is damaged: it does not have the digest in {_DIGEST}")
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if content.get("format") != FORMAT:
        raise BackupError(
            f"{folder} has backup format {content.get('format')!r}, this program reads {FORMAT}. "
            "Restore it with the release that wrote it, or a newer one."
        )
    for entry in content["files"]:
        _check_file(folder, entry)
    return content


def _check_file(folder: Path, entry: dict[str, Any]) -> None:
    if not _NAME.fullmatch(entry["name"]):
        raise BackupError(f"{folder}: the manifest names {entry['name']!r}, which is no row file")
    path = folder / entry["name"]
    if not path.is_file():
        raise BackupError(f"{path} is missing")
    if path.stat().st_size != entry["bytes"]:
        raise BackupError(f"{path} has {path.stat().st_size} bytes, expected {entry['bytes']}")
    if digest(path) != entry["sha256"]:
        raise BackupError(f"{path} is damaged: its SHA-256 is not the manifest's")


def rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of one file, one at a time."""
    with path.open("rb") as file:
        while line := file.readline(ROW_BYTES + 1):
            if len(line) > ROW_BYTES:
                raise BackupError(f"{path} has a line of more than {ROW_BYTES} bytes")
            yield json.loads(line)
