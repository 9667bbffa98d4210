"""Check a model's files against their list before an engine loads them.

Usage: verify_model.py MANIFEST [RECORD MAX_AGE], a JSON list with ``folder`` and ``files`` (path,
size, sha256) of the model, its adapters and its draft. Exit status 0 if each folder holds exactly
these files with this content, 1 if not.
Standard library only; runs as the engine's user, inside the engine's sandbox.

With RECORD, a file that was hashed less than MAX_AGE seconds ago is not hashed again while inode,
size, mtime and ctime are the same: an engine of 800 GB then restarts at once. Whoever changes a
file changes its ctime, which nobody can set; files belong to root, the record to the engine.
A file that fs-verity seals is believed for as long as the kernel holds it to the same digest: what
changes underneath then cannot be read at all.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import stat
import struct
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

_CHUNK = 4 * 1024 * 1024
_THREADS = 4
_MEASURE_VERITY = 0xC0046686  # FS_IOC_MEASURE_VERITY


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _measure(path: Path) -> str:
    """Return the fs-verity digest that the kernel holds a file to, empty if it is not sealed."""
    buffer = bytearray(struct.pack("<HH", 0, 64)) + bytearray(64)
    try:
        with path.open("rb", buffering=0) as file:
            fcntl.ioctl(file, _MEASURE_VERITY, buffer)
    except OSError:
        return ""
    algorithm, size = struct.unpack_from("<HH", buffer)
    return f"{algorithm}:{bytes(buffer[4 : 4 + size]).hex()}"


class Record:
    """What was hashed when, by path; damaged or missing records only cost time."""

    def __init__(self, path: Path | None, max_age: float) -> None:
        self._path = path
        self._max_age = max_age
        self._now = time.time()
        self._old = self._read()
        self._new: dict[str, object] = {}

    def _read(self) -> dict[str, object]:
        try:
            found = json.loads(self._path.read_text(encoding="ascii")) if self._path else {}
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def digest(self, path: Path, status: os.stat_result) -> str:
        """Return the file's digest: the one of the record while it may be believed."""
        identity = [status.st_dev, status.st_ino, status.st_size]
        identity += [status.st_mtime_ns, status.st_ctime_ns]
        sealed = _measure(path)
        match self._old.get(str(path)):
            case {"identity": known, "sha256": str(digest), "hashed": int() | float() as hashed}:
                fresh = 0 <= self._now - hashed < self._max_age
                kept = sealed != "" and self._old[str(path)].get("verity") == sealed
                if known == identity and (fresh or (kept and self._max_age > 0)):
                    self._new[str(path)] = self._old[str(path)]
                    return digest
        found = _digest(path)
        self._new[str(path)] = {
            "identity": identity,
            "sha256": found,
            "hashed": self._now,
            "verity": sealed,
        }
        return found

    def save(self) -> None:
        """Write the record; without it the next start hashes everything."""
        if self._path is None:
            return
        fresh = self._path.with_suffix(".new")
        try:
            fresh.write_text(json.dumps(self._new), encoding="ascii")
            fresh.replace(self._path)
        except OSError as error:
            print(f"cannot keep what was verified: {error}", file=sys.stderr)


def _fault(folder: Path, entry: dict[str, object], record: Record) -> str | None:
    path = folder / str(entry["path"])
    try:
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode):
            return f"{path} is no regular file"
        if status.st_size != entry["size"]:
            return f"{path} has {status.st_size} bytes, {entry['size']} are listed"
        found = record.digest(path, status)
    except OSError as error:
        return f"{path}: {error.strerror}"
    return None if found == entry["sha256"] else f"{path} has SHA-256 {found}, not as listed"


def _surplus(folder: Path, entries: list[dict[str, object]]) -> list[str]:
    listed = {str(entry["path"]) for entry in entries}
    found = {
        str((Path(root) / name).relative_to(folder))
        for root, directories, names in os.walk(folder)
        for name in [*names, *(d for d in directories if (Path(root) / d).is_symlink())]
    }
    return [f"{folder / name} is not in the list" for name in sorted(found - listed)]


def _faults(folder: Path, entries: list[dict[str, object]], record: Record) -> list[str]:
    """Return what is wrong with one folder."""
    if not entries:
        return [f"the list of {folder} is empty"]
    if not folder.is_dir():
        return [f"{folder} does not exist"]
    with ThreadPoolExecutor(_THREADS) as pool:
        checked = pool.map(lambda entry: _fault(folder, entry, record), entries)
        faults = [fault for fault in checked if fault is not None]
    return faults + _surplus(folder, entries)


def main() -> int:
    """Run the check; faults go to standard error."""
    manifests = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    record = Record(Path(sys.argv[2]), float(sys.argv[3])) if len(sys.argv) > 3 else Record(None, 0)
    faults = [] if manifests else [f"{sys.argv[1]} names no folder"]
    for manifest in manifests:
        faults += _faults(Path(manifest["folder"]), manifest["files"], record)
    if not faults:
        record.save()
    for fault in faults:
        print(f"model refused: {fault}", file=sys.stderr)
    if faults:
        print(
            "Bring the model again: remove the folder and run the converge stage.", file=sys.stderr
        )
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
