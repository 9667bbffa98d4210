"""The distribution itself: what of this repository runs on a site's bastion."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bundle.builder.blobs import BlobStore
from bundle.builder.errors import SpecError
from bundle.builder.lock import LockedFile

_SKIP = {"tests", "__pycache__", "node_modules", "build"}
_SKIP_SUFFIXES = (".pyc", ".pyo", ".swp", ".orig", ".rej")


def files(root: Path, include: Sequence[str], store: BlobStore) -> list[LockedFile]:
    """Return the files under the named entries of the working tree, as they are now.

    Hidden files, tests, caches and editor leftovers stay behind. Links are refused: the bundle's
    format has none.

    Raises:
        SpecError: an entry does not exist, or a symbolic link.
    """
    found: list[LockedFile] = []
    for name in include:
        start = root / name
        if not start.exists():
            raise SpecError(f"part 'distribution': {start} does not exist")
        paths = [start] if start.is_file() else sorted(start.rglob("*"))
        for path in paths:
            relative = path.relative_to(root)
            if _skipped(relative):
                continue
            if path.is_symlink():
                raise SpecError(f"{path} is a symbolic link, which a bundle cannot carry")
            if path.is_file():
                blob = store.add_bytes(path.read_bytes())
                text = relative.as_posix()
                found.append(LockedFile(text, "", text, blob.size, blob.sha256))
    return sorted(found, key=lambda entry: entry.file)


def _skipped(relative: Path) -> bool:
    return (
        any(part.startswith(".") or part in _SKIP for part in relative.parts)
        or relative.name.endswith(_SKIP_SUFFIXES)
        or relative.name.endswith("~")
    )
