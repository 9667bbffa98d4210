"""Which files a backup takes, and how one of them is read whole while others write."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from .errors import SourceError
from .layout import Roots

# Of the store's state: not what an import in progress works on, and not its lock.
_STORE_PASSING = ("lock", "pending")
# Of a run: how it ended and what it printed. Single events would be thousands of files a run.
_RUN_FILES = ("record.json", "artifacts/*/stdout", "artifacts/*/rc", "artifacts/*/status")
_PACKAGE_STORE = ("gnupg", "fingerprint", "site-archive-key.asc")
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Source:
    """One file to save and its name in the archive."""

    path: Path
    name: str


def bastion(roots: Roots) -> Iterator[Source]:
    """Yield what the bastion itself cannot lose."""
    yield from tree(roots.configuration, "configuration")
    state = roots.store / "state"
    for source in tree(state, "store/state"):
        if source.path.relative_to(state).parts[0] not in _STORE_PASSING:
            yield source
    for name in ("receipt.json", "release.json"):
        for path in sorted((roots.store / "releases").glob(f"*/{name}")):
            yield Source(path, f"store/releases/{path.parent.name}/{name}")
    yield from tree(roots.state / "plan", "state/plan")
    yield from tree(roots.state / "evidence", "state/evidence")
    for name in _PACKAGE_STORE:
        yield from tree(roots.state / "package_store" / name, f"state/package_store/{name}")
    for pattern in _RUN_FILES:
        for path in sorted((roots.state / "runs").glob(f"*/{pattern}")):
            yield Source(path, f"state/runs/{path.relative_to(roots.state / 'runs')}")


def others(audit: Path | None, extra: Sequence[Path]) -> Iterator[Source]:
    """Yield the gateways' audit archives (``HOST.tar`` in ``audit``) and further directories.

    Raises:
        SourceError: a further directory does not exist.
    """
    if audit is not None:
        for path in sorted(audit.glob("*.tar")):
            yield Source(path, f"audit/{path.name}")
    for directory in extra:
        if not directory.is_dir():
            raise SourceError(f"{directory}: no such directory; take it off the list or make it")
        yield from tree(directory, f"extra{directory}")


def tree(path: Path, name: str) -> Iterator[Source]:
    """Yield the regular files below ``path`` (or itself); links, sockets and pipes are left out."""
    if path.is_symlink():
        return
    if path.is_file():
        yield Source(path, name)
        return
    for folder, folders, files in os.walk(path):
        folders.sort()
        for file in sorted(files):
            found = Path(folder) / file
            if stat.S_ISREG(found.lstat().st_mode):
                yield Source(found, f"{name}/{found.relative_to(path)}")


def stable_length(path: Path, descriptor: int) -> int:
    """Return how many bytes of an open file are saved.

    A log of JSON lines may grow while it is read, and its last line may be half written: it is cut
    behind its last full line. Every other file is saved as long as it is now.
    """
    size = os.fstat(descriptor).st_size
    if path.suffix != ".jsonl":
        return size
    end = size
    while end > 0:
        start = max(0, end - _CHUNK)
        found = os.pread(descriptor, end - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0
