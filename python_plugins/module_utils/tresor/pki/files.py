"""Atomic writing of key material."""

from __future__ import annotations

import grp
import os
import pwd
import tempfile
from pathlib import Path

from .errors import PkiError


def owner_ids(owner: str, group: str) -> tuple[int, int]:
    """Return the numeric owner and group.

    Raises:
        PkiError: no such user or group on this host.
    """
    try:
        return pwd.getpwnam(owner).pw_uid, grp.getgrnam(group).gr_gid
    except KeyError as error:
        raise PkiError(f"user '{owner}' or group '{group}' does not exist on this host") from error


def write(path: Path, content: str, mode: int, ids: tuple[int, int] | None = None) -> None:
    """Write ``content`` so that a reader sees the old file or the whole new one, never half."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    scratch = Path(name)
    try:
        with os.fdopen(descriptor, "w") as file:
            os.fchmod(file.fileno(), mode)
            if ids is not None and ids != (os.geteuid(), os.getegid()):
                os.fchown(file.fileno(), *ids)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise


def read(path: Path) -> str | None:
    """Return the file's text, None when there is no such file."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None


def has_access(path: Path, mode: int, ids: tuple[int, int]) -> bool:
    """Say whether the file has exactly this mode and owner."""
    status = path.stat()
    return status.st_mode & 0o7777 == mode and (status.st_uid, status.st_gid) == ids


def set_access(path: Path, mode: int, ids: tuple[int, int]) -> None:
    """Give the file exactly this mode and owner."""
    if ids != (os.geteuid(), os.getegid()) or path.stat().st_uid != ids[0]:
        os.chown(path, *ids)
    path.chmod(mode)
