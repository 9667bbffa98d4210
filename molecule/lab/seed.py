"""What is written on a host's disk before its first boot, as data, and how it gets there."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from lab.errors import lab_error


@dataclass(frozen=True)
class Account:
    """A user with a group of the same name and number."""

    name: str
    number: int
    home: str
    shell: str


@dataclass(frozen=True)
class File:
    """A file; ``path`` is relative to the root of the host."""

    path: str
    content: str | bytes
    mode: int = 0o644
    owner: int = 0
    group: int = 0


@dataclass(frozen=True)
class Directory:
    """A directory whose mode or owner matters."""

    path: str
    mode: int = 0o755
    owner: int = 0
    group: int = 0


@dataclass(frozen=True)
class Link:
    """A symbolic link."""

    path: str
    target: str


Entry = File | Directory | Link


def unit(name: str, content: str, *, wanted_by: str | None = None) -> list[Entry]:
    """Return a systemd unit, enabled when ``wanted_by`` names a target."""
    entries: list[Entry] = [File(f"etc/systemd/system/{name}", content)]
    if wanted_by is not None:
        wants = f"etc/systemd/system/{wanted_by}.wants/{name}"
        entries.append(Link(wants, f"/etc/systemd/system/{name}"))
    return entries


def accounts(tree: Path, new: Iterable[Account]) -> list[Entry]:
    """Return the account files of a base tree with some accounts added.

    No password is valid; ``*`` (unlike ``!``) still lets a key in.
    """
    lines: dict[str, list[str]] = {
        "passwd": [],
        "shadow": [],
        "group": [],
        "gshadow": [],
    }
    for account in new:
        name, number = account.name, account.number
        lines["passwd"].append(f"{name}:x:{number}:{number}::{account.home}:{account.shell}")
        lines["shadow"].append(f"{name}:*:19000:0:99999:7:::")
        lines["group"].append(f"{name}:x:{number}:")
        lines["gshadow"].append(f"{name}:!::")
    entries: list[Entry] = []
    for name, added in lines.items():
        path = tree / "etc" / name
        status = path.stat()
        content = path.read_text() + "".join(f"{line}\n" for line in added)
        mode = status.st_mode & 0o7777
        entries.append(File(f"etc/{name}", content, mode, status.st_uid, status.st_gid))
    return entries


def apply(tree: Path, upper: Path, entries: Iterable[Entry]) -> None:
    """Write the entries into a new directory that overlays ``tree``.

    Directories that the tree has keep its mode and owner: in an overlay the upper one's count.
    """
    upper.mkdir(mode=0o755)
    upper.chmod(0o755)
    for entry in entries:
        _check(entry.path)
        target = upper / entry.path
        _parents(tree, upper, Path(entry.path).parent)
        if isinstance(entry, Directory):
            target.mkdir(exist_ok=True)
            target.chmod(entry.mode)
            os.chown(target, entry.owner, entry.group)
        elif isinstance(entry, Link):
            target.symlink_to(entry.target)
        else:
            content = entry.content
            target.write_bytes(content.encode() if isinstance(content, str) else content)
            os.chown(target, entry.owner, entry.group)
            target.chmod(entry.mode)


def _check(path: str) -> None:
    if path.startswith("/") or ".." in Path(path).parts:
        raise lab_error("path of a host's file", f"'{path}' leaves the host", "Mend the caller")


def _parents(tree: Path, upper: Path, parent: Path) -> None:
    current = Path()
    for part in parent.parts:
        current /= part
        target = upper / current
        if target.exists():
            continue
        target.mkdir(mode=0o755)
        source = tree / current
        if source.is_dir():
            shutil.copystat(source, target)
            status = source.stat()
            os.chown(target, status.st_uid, status.st_gid)
        else:
            target.chmod(0o755)
