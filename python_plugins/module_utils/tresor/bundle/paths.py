"""Which file paths a bundle may carry: the same on every file system, harmless to every tool."""

from __future__ import annotations

import re
import unicodedata

from .errors import RejectedError

MAX_PATH_BYTES = 200
_SEGMENT = re.compile(r"[A-Za-z0-9._+@=~-]+")


def check_path(path: str, rule: str = "manifest.path") -> str:
    """Return ``path`` if it obeys the bundle's path rules.

    Segments of ``A-Z a-z 0-9 . _ + @ = ~ -`` joined by ``/``, in NFC, at most 200 bytes; no
    segment may begin with ``.`` or ``-`` (this excludes ``..``, ``.git*`` and option look-alikes).

    Raises:
        RejectedError: ``rule``.
    """
    if not path or len(path.encode("utf-8", "surrogatepass")) > MAX_PATH_BYTES:
        raise RejectedError(rule, f"path must have 1 to {MAX_PATH_BYTES} bytes", path[:220])
    if unicodedata.normalize("NFC", path) != path:
        raise RejectedError(rule, "path is not in Unicode normal form C", ascii(path))
    for segment in path.split("/"):
        if not _SEGMENT.fullmatch(segment):
            raise RejectedError(
                rule,
                f"segment {segment!r} is empty or has a character outside A-Za-z0-9._+@=~-",
                ascii(path)[1:-1],
            )
        if segment[0] in ".-":
            raise RejectedError(rule, f"segment {segment!r} begins with '.' or '-'", path)
        if segment.casefold().startswith("git~"):
            # The short name under which Windows file systems also show a .git folder.
            raise RejectedError(rule, f"segment {segment!r} is an alias of .git", path)
    return path


def check_unique(paths: list[str], rule: str = "manifest.path") -> None:
    """Refuse two paths that differ only in case, and a file that is also a folder.

    Raises:
        RejectedError: ``rule``.
    """
    folded: dict[str, str] = {}
    for path in paths:
        key = path.casefold()
        if key in folded:
            raise RejectedError(rule, f"path collides with {folded[key]!r}", path)
        folded[key] = path
    for path in paths:
        parent = path.casefold().rpartition("/")[0]
        while parent:
            if parent in folded:
                raise RejectedError(rule, f"{folded[parent]!r} is a file and a folder", path)
            parent = parent.rpartition("/")[0]
