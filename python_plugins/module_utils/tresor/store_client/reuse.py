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
from pathlib import Path

from ..bundle.canonical import dump_canonical
from ..bundle.content import normalised
from ..bundle.layout import write_atomic

MARKER = ".tresor-environment.json"
COMPILED = ".tresor-compiled.json"
_CHUNK = 1 << 20
_SCRIPTS = "bin"


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
    def site(self) -> str:
        """The folder of packages, below the release."""
        return f"lib/python{self.python}/site-packages"


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
        whole = list(pool.map(_whole, wheels))
    # One after the other: two wheels may own the same file, and then the second finds it there.
    return {
        wheel
        for wheel, files in zip(wheels, whole, strict=True)
        if files is not None and _take(wheel, files, release, compiled[wheel.release])
    }


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


def _whole(wheel: Unpacked) -> list[tuple[str, list[str]]] | None:
    """The files of a wheel if all are what RECORD says, or None."""
    try:
        files = list(_files(wheel))
        for path, row in files:
            if f"sha256={_digest(f'{wheel.release}/{path}')}" != row[1]:
                return None
    except (DamagedError, OSError, ValueError, csv.Error):
        return None
    return files


def _take(
    wheel: Unpacked, files: list[tuple[str, list[str]]], release: Path, compiled: dict[str, str]
) -> bool:
    """Take one wheel over whole, or leave nothing of it."""
    made: list[str] = []
    try:
        rows = _Linking(wheel, release, made).link(files, compiled)
        record = f"{release}/{wheel.site}/{wheel.info}/RECORD"
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([*rows, [f"{wheel.info}/RECORD", "", ""]])
        made.append(record)
        Path(record).write_text(text.getvalue(), encoding="utf-8")
    except (DamagedError, OSError):
        # A file system that links no more: the wheel itself has it all.
        for path in made:
            Path(path).unlink(missing_ok=True)
        return False
    return True


def _files(wheel: Unpacked) -> Iterator[tuple[str, list[str]]]:
    """The files of a wheel but for its RECORD: path below the release, and RECORD's row.

    Raises:
        DamagedError: RECORD names no digest, or a place outside of the environment.
    """
    own = f"{wheel.info}/RECORD"
    with (wheel.release / wheel.site / own).open(encoding="utf-8", newline="") as stream:
        for row in csv.reader(stream):
            if len(row) != 3:
                raise DamagedError(str(row))
            if row[0] == own:
                continue
            path = os.path.normpath(f"{wheel.site}/{row[0]}")
            if row[0].startswith("/") or path.startswith("..") or row[1][:7] != "sha256=":
                raise DamagedError(str(row))
            yield path, row


def _digest(path: str) -> str:
    """The SHA-256 of a plain file in RECORD's spelling.

    Raises:
        DamagedError: it is a link, or no file.
    """
    return _spelled(_sha256(path).digest())


def _sha256(path: str) -> hashlib._Hash:
    digest = hashlib.sha256()
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise DamagedError(path)
        while chunk := os.read(descriptor, _CHUNK):
            digest.update(chunk)
    finally:
        os.close(descriptor)
    return digest


def _spelled(digest: bytes) -> str:
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


class _Linking:
    """Gives an environment the files of a wheel; ``made`` grows by what was made."""

    def __init__(self, wheel: Unpacked, release: Path, made: list[str]) -> None:
        self._source = f"{wheel.release}/"
        self._target = f"{release}/"
        self._tag = f".cpython-{wheel.python.replace('.', '')}.pyc"
        self._made = made
        self._folders: set[str] = set()

    def link(
        self, files: Iterable[tuple[str, list[str]]], compiled: dict[str, str]
    ) -> list[list[str]]:
        """Link files, and what Python has compiled of them; returns their rows in RECORD."""
        rows = []
        for path, row in files:
            folder, _, name = path.rpartition("/")
            self._make(folder)
            own = self._script(path, row) if folder == _SCRIPTS else None
            if own is None:
                self._link(path)
            rows.append(own or row)
            if name.endswith(".py"):
                cached = f"{folder}/__pycache__/{name[:-3]}{self._tag}"
                known = compiled.get(cached)
                # A compiled file names its source by time and size, which a link keeps.
                if known is not None and self._is_still(cached, known):
                    self._make(f"{folder}/__pycache__")
                    self._link(cached)
        return rows

    def _make(self, folder: str) -> None:
        if folder not in self._folders:
            Path(self._target + folder).mkdir(mode=0o755, parents=True, exist_ok=True)
            self._folders.add(folder)

    def _link(self, path: str) -> None:
        source, target = self._source + path, self._target + path
        try:
            os.link(source, target, follow_symlinks=False)
        except FileExistsError:
            if not Path(source).samefile(target):
                raise
        else:
            self._made.append(target)

    def _is_still(self, path: str, digest: str) -> bool:
        try:
            return _sha256(self._source + path).hexdigest() == digest
        except (OSError, DamagedError):
            return False

    def _script(self, path: str, row: list[str]) -> list[str] | None:
        """Write a script that names the Python of its environment; none if it names none."""
        source, target = Path(self._source + path), Path(self._target + path)
        content = source.read_bytes()
        own = content.replace(os.fsencode(self._source), os.fsencode(self._target))
        if own == content:
            return None
        self._made.append(str(target))
        with target.open("xb") as stream:
            stream.write(own)
        target.chmod(stat.S_IMODE(source.stat().st_mode))
        return [row[0], f"sha256={_spelled(hashlib.sha256(own).digest())}", str(len(own))]
