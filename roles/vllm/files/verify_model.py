"""Check a model's files against their list before an engine loads them.

Usage: verify_model.py MANIFEST, a JSON file with ``folder`` and ``files`` (path, size, sha256).
Exit status 0 if the folder holds exactly these files with this content, 1 if not.
Standard library only; runs as the engine's user, inside the engine's sandbox.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

_CHUNK = 4 * 1024 * 1024
_THREADS = 4


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _fault(folder: Path, entry: dict[str, object]) -> str | None:
    path = folder / str(entry["path"])
    try:
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode):
            return f"{path} is no regular file"
        if status.st_size != entry["size"]:
            return f"{path} has {status.st_size} bytes, {entry['size']} are listed"
        found = _digest(path)
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


def main() -> int:
    """Run the check; faults go to standard error."""
    manifest = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    folder, entries = Path(manifest["folder"]), manifest["files"]
    if not entries:
        faults = [f"the list of {folder} is empty"]
    elif not folder.is_dir():
        faults = [f"{folder} does not exist"]
    else:
        with ThreadPoolExecutor(_THREADS) as pool:
            checked = pool.map(lambda entry: _fault(folder, entry), entries)
            faults = [fault for fault in checked if fault is not None]
        faults += _surplus(folder, entries)
    for fault in faults:
        print(f"model refused: {fault}", file=sys.stderr)
    if faults:
        print(
            "Bring the model again: remove the folder and run the converge stage.", file=sys.stderr
        )
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
