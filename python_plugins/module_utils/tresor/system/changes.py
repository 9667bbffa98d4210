"""Look at the files, decide what has to change, then change it."""

from __future__ import annotations

import os
import shlex
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .errors import SystemStateError
from .wanted import Access, Wanted, WantedDirectory, WantedFile, WantedLink

_VALIDATE_TIMEOUT_S = 60
_DIFF_LIMIT = 100_000


@dataclass(frozen=True)
class Change:
    """One step: ``entry`` is the wanted thing, None where ``path`` has to go."""

    path: Path
    entry: WantedDirectory | WantedFile | WantedLink | None
    before: str
    after: str


def plan(wanted: Wanted) -> list[Change]:
    """Return the steps that lead to the wanted state. Changes nothing.

    Raises:
        SystemStateError: something else than a file lies where a file should be, and the like.
    """
    managed = wanted.managed()
    found = [_directory(entry) for entry in wanted.directories]
    found += [_file(entry) for entry in wanted.files]
    found += [_link(entry) for entry in wanted.links]
    found += [_removal(path) for path in wanted.absent]
    found += [_removal(path) for path in _to_purge(wanted, managed)]
    return [change for change in found if change is not None]


def check(changes: list[Change]) -> None:
    """Let each new content be checked by the program that will read it, before any is written.

    Raises:
        SystemStateError: a program refused its configuration.
    """
    for change in changes:
        if isinstance(change.entry, WantedFile) and change.entry.validate is not None:
            _validate(change.entry)


def apply(changes: list[Change]) -> None:
    """Carry out the steps.

    Raises:
        SystemStateError: the folder of a file is missing.
    """
    for change in changes:
        match change.entry:
            case None:
                change.path.unlink()
            case WantedDirectory():
                _make_directory(change.entry)
            case WantedFile():
                _write(change.entry)
            case WantedLink():
                _make_link(change.entry)


def _directory(entry: WantedDirectory) -> Change | None:
    status = _lstat(entry.path)
    if status is None:
        return Change(entry.path, entry, "", f"directory, {entry.access.describe()}\n")
    if not stat.S_ISDIR(status.st_mode):
        raise SystemStateError(f"{entry.path} exists and is no directory; move it away")
    return _access_change(entry.path, entry, status, entry.access, "directory")


def _file(entry: WantedFile) -> Change | None:
    status = _lstat(entry.path)
    if status is None:
        return Change(entry.path, entry, "", _shown(entry.content))
    if stat.S_ISLNK(status.st_mode):
        return Change(entry.path, entry, f"-> {entry.path.readlink()}\n", _shown(entry.content))
    if not stat.S_ISREG(status.st_mode):
        raise SystemStateError(f"{entry.path} exists and is no file; move it away")
    content = entry.path.read_bytes() if status.st_size == len(entry.content) else None
    if content != entry.content:
        before = entry.path.read_bytes() if content is None else content
        return Change(entry.path, entry, _shown(before), _shown(entry.content))
    return _access_change(entry.path, entry, status, entry.access, "file")


def _link(entry: WantedLink) -> Change | None:
    status = _lstat(entry.path)
    after = f"-> {entry.target}\n"
    if status is None:
        return Change(entry.path, entry, "", after)
    if not stat.S_ISLNK(status.st_mode):
        if not stat.S_ISREG(status.st_mode):
            raise SystemStateError(f"{entry.path} exists and is no link; move it away")
        return Change(entry.path, entry, "file\n", after)
    before = str(entry.path.readlink())
    return None if before == entry.target else Change(entry.path, entry, f"-> {before}\n", after)


def _removal(path: Path) -> Change | None:
    status = _lstat(path)
    if status is None:
        return None
    if stat.S_ISDIR(status.st_mode):
        raise SystemStateError(f"{path} is a directory; only files and links are removed")
    return Change(path, None, "present\n", "")


def _to_purge(wanted: Wanted, managed: frozenset[Path]) -> Iterator[Path]:
    for entry in wanted.purge:
        if not entry.directory.is_dir():
            continue
        for path in sorted(entry.directory.iterdir()):
            is_directory = path.is_dir() and not path.is_symlink()
            if (
                not is_directory
                and path not in managed
                and path not in wanted.absent
                and entry.removes(path.name)
            ):
                yield path


def _access_change(
    path: Path,
    entry: WantedDirectory | WantedFile,
    status: os.stat_result,
    access: Access,
    kind: str,
) -> Change | None:
    found = Access(stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid)
    if found == access:
        return None
    return Change(path, entry, f"{kind}, {found.describe()}\n", f"{kind}, {access.describe()}\n")


def _make_directory(entry: WantedDirectory) -> None:
    if not entry.path.exists():
        _need_parent(entry.path)
        entry.path.mkdir(mode=0o700)
    _set_access(entry.path, entry.access)


def _write(entry: WantedFile) -> None:
    _need_parent(entry.path)
    scratch = _scratch(entry, entry.path.parent)
    try:
        scratch.replace(entry.path)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise


def _make_link(entry: WantedLink) -> None:
    _need_parent(entry.path)
    scratch = entry.path.with_name(f".{entry.path.name}.tresor-new")
    scratch.unlink(missing_ok=True)
    scratch.symlink_to(entry.target)
    scratch.replace(entry.path)


def _scratch(entry: WantedFile, directory: Path | None) -> Path:
    descriptor, name = tempfile.mkstemp(prefix=f".{entry.path.name}.", dir=directory)
    path = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(entry.content)
            file.flush()
            os.fsync(file.fileno())
        _set_access(path, entry.access)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return path


def _set_access(path: Path, access: Access) -> None:
    status = path.stat()
    if (status.st_uid, status.st_gid) != (access.uid, access.gid):
        os.chown(path, access.uid, access.gid)
    path.chmod(access.mode)


def _validate(entry: WantedFile) -> None:
    command = shlex.split(entry.validate or "")
    if "%s" not in command:
        raise SystemStateError(f"validate of {entry.path}: '%s' must stand for the file")
    scratch = _scratch(entry, None)
    try:
        done = subprocess.run(
            [str(scratch) if word == "%s" else word for word in command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_VALIDATE_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SystemStateError(f"the check of {entry.path} could not run: {error}") from error
    finally:
        scratch.unlink(missing_ok=True)
    if done.returncode != 0:
        text = (done.stderr or done.stdout).strip().replace(str(scratch), str(entry.path))
        raise SystemStateError(f"{command[0]} refuses the new {entry.path}: {text[-800:]}")


def _need_parent(path: Path) -> None:
    if not path.parent.is_dir():
        raise SystemStateError(f"{path.parent} does not exist; list it under directories")


def _lstat(path: Path) -> os.stat_result | None:
    try:
        return path.lstat()
    except FileNotFoundError:
        return None


def _shown(content: bytes) -> str:
    if len(content) > _DIFF_LIMIT or b"\0" in content:
        return f"({len(content)} bytes)\n"
    return content.decode("utf-8", "replace")
