"""Wheels that this host has unpacked already: a new environment gets their files by hard link.

An upgrade of an engine changes a few wheels of two hundred, and two environments of one closure
differ in none. What is taken over is what the installed RECORD lists, and every byte is compared
with it; compiled code is compared with a list that was written when it was made. A wheel of which
anything is not as it was is fetched and installed like any other.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import os
import stat
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ..bundle.canonical import dump_canonical
from ..bundle.content import normalised
from ..bundle.layout import write_atomic

MARKER = ".tresor-environment.json"
COMPILED = ".tresor-compiled.json"
_CHUNK = 1 << 20
_SCRIPTS = PurePosixPath("bin")


class DamagedError(Exception):
    """Files of an installed wheel are not what its RECORD says."""


@dataclass(frozen=True)
class Unpacked:
    """A wheel as it lies in an environment.

    Attributes:
        release: the environment's folder.
        python: its Python, such as ``3.11``.
        info: name of the wheel's ``.dist-info`` folder.
    """

    release: Path
    python: str
    info: str

    @property
    def site(self) -> PurePosixPath:
        """The folder of packages, below the release."""
        return PurePosixPath("lib", f"python{self.python}", "site-packages")


@dataclass(frozen=True)
class _File:
    """One file of a wheel: where it is below the release, and its digest and size in RECORD."""

    path: PurePosixPath
    row: list[str]


def marker(release: Path) -> dict[str, object]:
    """Return what an environment says about itself; empty for one that is not complete."""
    try:
        found = json.loads((release / MARKER).read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def find(prefix: Path, python: str) -> dict[str, Unpacked]:
    """Return the wheels of all complete environments below ``prefix``, by their SHA-256."""
    found = {}
    for path in sorted(prefix.glob(f"*/*/{MARKER}")):
        if path.parent.is_symlink():
            continue  # current: an environment under another name than its scripts know
        told = marker(path.parent)
        wheels = told.get("wheels")
        if told.get("python") == python and isinstance(wheels, dict):
            for digest, info in wheels.items():
                found[digest] = Unpacked(path.parent, python, str(info))
    return found


def take(wheels: Iterable[Unpacked], release: Path) -> set[Unpacked]:
    """Link the files of wheels into ``release``, an environment of the same Python.

    Returns:
        The wheels that are there now; of the others there is nothing.
    """
    wheels = list(wheels)
    compiled = {wheel.release: _compiled(wheel.release) for wheel in wheels}
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        # Most files are small, a few hold most bytes: hashing leaves the interpreter to others.
        done = pool.map(lambda wheel: _take(wheel, release, compiled[wheel.release]), wheels)
        return {wheel for wheel, taken in zip(wheels, done, strict=True) if taken}


def unpacked(release: Path, python: str, wheels: Collection[tuple[str, str]]) -> dict[str, str]:
    """Return the ``.dist-info`` folder of each wheel, by digest; ``wheels``: digest, project."""
    site = release / "lib" / f"python{python}" / "site-packages"
    infos = {_project(path.name): path.name for path in site.glob("*.dist-info")}
    return {digest: infos[project] for digest, project in wheels if project in infos}


def remember_compiled(release: Path) -> None:
    """Write down what the compiled files of an environment are, for those that take them over."""
    digests = {}
    for path in sorted(release.glob("lib/**/*.pyc")):
        digests[str(path.relative_to(release))] = hashlib.sha256(path.read_bytes()).hexdigest()
    write_atomic(release / COMPILED, dump_canonical(digests) + b"\n")


def _compiled(release: Path) -> dict[str, str]:
    try:
        found = json.loads((release / COMPILED).read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _project(info: str) -> str:
    return normalised(info.removesuffix(".dist-info").rpartition("-")[0])


def _take(wheel: Unpacked, release: Path, compiled: dict[str, str]) -> bool:
    """Take one wheel over whole, or leave nothing of it."""
    made: list[Path] = []
    try:
        files = list(_files(wheel))
        for file in files:
            _compare(wheel.release / file.path, file.row)
        rows = [_link(wheel, file, release, made) for file in files]
        for file in files:
            _link_compiled(wheel, file.path, release, compiled, made)
        record = release / wheel.site / wheel.info / "RECORD"
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([*rows, [f"{wheel.info}/RECORD", "", ""]])
        made.append(record)
        record.write_text(text.getvalue(), encoding="utf-8")
    except (DamagedError, OSError, ValueError, UnicodeDecodeError, csv.Error):
        # A file that changed, a file system that links no more: the wheel itself has it all.
        for path in made:
            path.unlink(missing_ok=True)
        return False
    return True


def _files(wheel: Unpacked) -> Iterator[_File]:
    """The files of a wheel but for its RECORD.

    Raises:
        DamagedError: RECORD names no digest, or a place outside of the environment.
    """
    record = wheel.release / wheel.site / wheel.info / "RECORD"
    with record.open(encoding="utf-8", newline="") as stream:
        for row in csv.reader(stream):
            if len(row) != 3:
                raise DamagedError(f"{record}: {row}")
            if row[0] == f"{wheel.info}/RECORD":
                continue
            path = PurePosixPath(os.path.normpath(wheel.site / row[0]))
            if path.is_absolute() or path.parts[0] == ".." or not row[1].startswith("sha256="):
                raise DamagedError(f"{record}: {row}")
            yield _File(path, row)


def _compare(path: Path, row: list[str]) -> None:
    if f"sha256={_digest(path)}" != row[1]:
        raise DamagedError(str(path))


def _digest(path: Path) -> str:
    """The SHA-256 of a plain file in RECORD's spelling.

    Raises:
        DamagedError: it is a link, or no file.
    """
    digest = hashlib.sha256()
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb", buffering=0) as stream:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise DamagedError(str(path))
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return _spelled(digest.digest())


def _spelled(digest: bytes) -> str:
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def _link(wheel: Unpacked, file: _File, release: Path, made: list[Path]) -> list[str]:
    """Give ``release`` the file; returns its row in RECORD."""
    source, target = wheel.release / file.path, release / file.path
    target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    if file.path.parent == _SCRIPTS:
        content = source.read_bytes()
        own = content.replace(os.fsencode(wheel.release) + b"/", os.fsencode(release) + b"/")
        if own != content:
            # A script names the Python of its environment.
            made.append(target)
            with target.open("xb") as stream:
                stream.write(own)
            target.chmod(stat.S_IMODE(source.stat().st_mode))
            return [
                file.row[0],
                f"sha256={_spelled(hashlib.sha256(own).digest())}",
                str(len(own)),
            ]
    os.link(source, target, follow_symlinks=False)
    made.append(target)
    return file.row


def _link_compiled(
    wheel: Unpacked,
    path: PurePosixPath,
    release: Path,
    compiled: dict[str, str],
    made: list[Path],
) -> None:
    """Take over what Python has compiled of a file: it names its source by time and size."""
    if path.suffix != ".py":
        return
    tag = f"cpython-{wheel.python.replace('.', '')}"
    own = path.parent / "__pycache__" / f"{path.stem}.{tag}.pyc"
    known = compiled.get(str(own))
    source = wheel.release / own
    if known is None or not source.is_file() or source.is_symlink():
        return
    if hashlib.sha256(source.read_bytes()).hexdigest() != known:
        return
    target = release / own
    target.parent.mkdir(mode=0o755, exist_ok=True)
    os.link(source, target, follow_symlinks=False)
    made.append(target)
