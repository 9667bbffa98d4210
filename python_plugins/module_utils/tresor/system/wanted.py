"""What a set of files should look like."""

from __future__ import annotations

import fnmatch
import grp
import pwd
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from .errors import SystemStateError

_MODE = re.compile(r"0?[0-7]{3,4}")


@dataclass(frozen=True)
class Access:
    """Mode bits and numeric owner of a file."""

    mode: int
    uid: int
    gid: int

    def describe(self) -> str:
        """Return the access for a diff."""
        return f"mode {self.mode:04o}, owner {self.uid}:{self.gid}"


@dataclass(frozen=True)
class WantedFile:
    """A regular file with its whole content."""

    path: Path
    content: bytes
    access: Access
    validate: str | None = None


@dataclass(frozen=True)
class WantedDirectory:
    """A directory."""

    path: Path
    access: Access


@dataclass(frozen=True)
class WantedLink:
    """A symbolic link; its target need not exist."""

    path: Path
    target: str


@dataclass(frozen=True)
class Purge:
    """A directory that holds no files but the managed ones, as far as ``pattern`` reaches."""

    directory: Path
    pattern: str
    keep: frozenset[str]

    def removes(self, name: str) -> bool:
        """Say whether a file of this name has to go, managed ones left aside."""
        return fnmatch.fnmatchcase(name, self.pattern) and name not in self.keep


@dataclass(frozen=True)
class Wanted:
    """The whole wanted state of one call."""

    directories: tuple[WantedDirectory, ...] = ()
    files: tuple[WantedFile, ...] = ()
    links: tuple[WantedLink, ...] = ()
    absent: tuple[Path, ...] = ()
    purge: tuple[Purge, ...] = ()

    def managed(self) -> frozenset[Path]:
        """Return the paths that exist in the end.

        Raises:
            SystemStateError: a path is wanted twice, or wanted and unwanted, or not absolute.
        """
        paths = [
            *(entry.path for entry in self.directories),
            *(entry.path for entry in self.files),
            *(entry.path for entry in self.links),
        ]
        for path in [*paths, *self.absent, *(entry.directory for entry in self.purge)]:
            if not path.is_absolute() or ".." in path.parts:
                raise SystemStateError(f"'{path}' is no absolute path without '..'")
        twice = _first_duplicate([*paths, *self.absent])
        if twice is not None:
            raise SystemStateError(f"'{twice}' is listed twice")
        return frozenset(paths)


def access(mode: str, owner: str, group: str) -> Access:
    """Return mode and owner in numbers.

    Raises:
        SystemStateError: the mode is no octal text, or user or group do not exist here.
    """
    if not _MODE.fullmatch(mode):
        raise SystemStateError(f"mode '{mode}': write octal digits as text, for example '0644'")
    try:
        return Access(int(mode, 8), pwd.getpwnam(owner).pw_uid, grp.getgrnam(group).gr_gid)
    except KeyError as error:
        raise SystemStateError(
            f"user '{owner}' or group '{group}' does not exist on this host"
        ) from error


def _first_duplicate(paths: Iterable[Path]) -> Path | None:
    seen: set[Path] = set()
    for path in paths:
        if path in seen:
            return path
        seen.add(path)
    return None
