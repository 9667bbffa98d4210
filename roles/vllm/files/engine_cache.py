"""Bring an engine's compiled kernels from the release into its cache, checked before every start.

Usage: engine_cache.py FOLDER CACHE [--locked]. FOLDER holds ``cache.json`` and ``cache.tar`` as the
release carries them (verified by verify_model.py right before), CACHE is the engine's own cache. A
listed file that is missing or has another content is written again. What is not listed stays,
because an engine adds to its cache; with --locked it is removed: an engine loads what lies there,
programs included.

Exit status 0 if CACHE holds what is listed. Standard library only; runs as the engine's user.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import sys
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

_CHUNK = 4 * 1024 * 1024


class CacheError(Exception):
    """The release's files do not fit together."""


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    with os.fdopen(handle, "rb", buffering=0) as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _folder(cache: Path, relative: Path) -> Path:
    """Return a folder below the cache, made of real folders all the way."""
    folder = cache
    for part in relative.parts:
        folder = folder / part
        if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
            folder.unlink()
        folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def _right(cache: Path, entry: Mapping[str, object]) -> bool:
    relative = Path(str(entry["path"]))
    if any((cache / parent).is_symlink() for parent in relative.parents[:-1]):
        return False
    path = cache / relative
    try:
        status = path.lstat()
        return (
            stat.S_ISREG(status.st_mode)
            and status.st_size == entry["size"]
            # A second name elsewhere would be a way to change it later.
            and status.st_nlink == 1
            and _digest(path) == entry["sha256"]
        )
    except OSError:
        return False


def _write(
    archive: tarfile.TarFile, member: tarfile.TarInfo, path: Path, entry: Mapping[str, object]
) -> None:
    content = archive.extractfile(member) if member.isreg() else None
    if content is None:
        raise CacheError(f"{member.name} is no plain file in the archive")
    fresh = path.with_name(f".{path.name}.new")
    if fresh.is_symlink() or fresh.exists():
        _remove(fresh)
    digest = hashlib.sha256()
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(handle, "wb") as target:
        while chunk := content.read(_CHUNK):
            digest.update(chunk)
            target.write(chunk)
    if digest.hexdigest() != entry["sha256"]:
        fresh.unlink()
        raise CacheError(f"{member.name} has SHA-256 {digest.hexdigest()}, not as listed")
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    fresh.replace(path)


def _surplus(cache: Path, listed: Mapping[str, object]) -> int:
    """Remove what is not listed; return how many files and links."""
    removed = 0
    for root, directories, names in os.walk(cache, topdown=False):
        for name in names:
            if (Path(root) / name).relative_to(cache).as_posix() not in listed:
                (Path(root) / name).unlink()
                removed += 1
        for name in directories:
            path = Path(root) / name
            if path.is_symlink():
                path.unlink()
                removed += 1
            elif not any(path.iterdir()):
                path.rmdir()
    return removed


def place(folder: Path, cache: Path, *, locked: bool) -> tuple[int, int]:
    """Make the cache hold what is listed; return the files written and removed.

    Raises:
        CacheError: list and archive do not fit together.
    """
    record = json.loads((folder / "cache.json").read_text(encoding="utf-8"))
    listed = {str(entry["path"]): entry for entry in record["files"]}
    for path in listed:
        if path.startswith("/") or ".." in path.split("/"):
            raise CacheError(f"{path} leads out of the cache")
    removed = _surplus(cache, listed) if locked else 0
    wanted = {path for path, entry in listed.items() if not _right(cache, entry)}
    missing = set(wanted)
    with tarfile.open(folder / "cache.tar", mode="r:") as archive:
        for member in archive:
            if member.name in missing:
                target = _folder(cache, Path(member.name).parent) / Path(member.name).name
                _write(archive, member, target, listed[member.name])
                missing.discard(member.name)
    if missing:
        raise CacheError(f"{min(missing)} is not in the archive")
    return len(wanted), removed


def main(arguments: Sequence[str]) -> int:
    """Run; faults go to standard error."""
    folder, cache = Path(arguments[0]), Path(arguments[1])
    try:
        written, removed = place(folder, cache, locked="--locked" in arguments[2:])
    except (CacheError, OSError, ValueError, KeyError, tarfile.TarError) as error:
        print(f"engine cache refused: {error}", file=sys.stderr)
        print(f"Remove {folder} and run the converge stage: it comes again.", file=sys.stderr)
        return 1
    if written or removed:
        print(f"engine cache: {written} files written, {removed} foreign ones removed")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
