"""The data keys on disk: one file per subject and day, made once, destroyed for good.

Writers hold a shared lock on a day while they use its keys, whoever destroys one holds it alone. So
after a key was destroyed nothing more is sealed with it, also by a worker that still remembers it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from tresor_gateway.content.crypto import ContentError, DataKey, Owner, SiteKey

_DAY: Final = re.compile(r"\d{4}-\d{2}-\d{2}")
_SUBJECT: Final = re.compile(r"[0-9a-f]{32}")
_KEYS: Final = "keys"
_LOCK: Final = ".lock"
_LOCK_SECONDS: Final = 2.0
_PAUSE: Final = 0.005
_FORGET_SECONDS: Final = 60.0
_MAX_KEY_BYTES: Final = 4096


def check_owner(owner: Owner) -> None:
    """Refuse what is no name of a day or a subject before it becomes a path.

    Raises:
        ContentError: says which one, and its shape.
    """
    if not _DAY.fullmatch(owner.day):
        raise ContentError(f"day {owner.day!r}: write it as YYYY-MM-DD (UTC)")
    if not _SUBJECT.fullmatch(owner.subject):
        raise ContentError(
            f"subject {owner.subject!r}: write the pseudonym of the audit record, 32 hex digits"
        )


def sync_directory(path: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Keyring:
    """The keys below the store's ``directory``."""

    def __init__(self, directory: Path, site_key: SiteKey) -> None:
        self._directory = directory
        self._site_key = site_key
        # Owner -> key, identity of its file, when it was read.
        self._known: dict[Owner, tuple[DataKey, tuple[int, int], float]] = {}

    @contextmanager
    def using(self, day: str) -> Iterator[Path]:
        """Share a day with other writers; its folder is made when there is none.

        Raises:
            OSError: it cannot be had within two seconds, or not at all.
        """
        folder = self._directory / day
        if not (folder / _KEYS).is_dir():
            (folder / _KEYS).mkdir(mode=0o700, parents=True, exist_ok=True)
            sync_directory(folder)
            sync_directory(self._directory)
        with _held(folder, fcntl.LOCK_SH):
            yield folder

    def key(self, owner: Owner) -> DataKey:
        """The owner's key, made when there is none; the day must be held.

        Raises:
            ContentError: its file is damaged or of another site key.
            OSError: the disk is full or gone.
        """
        path = self._path(owner)
        known = self._known.get(owner)
        if known is not None:
            with suppress(FileNotFoundError):
                if _identity(path) == known[1]:
                    return known[0]
            del self._known[owner]
        try:
            key = self.existing(owner)
        except FileNotFoundError:
            key = self._make(owner, path)
        self._known[owner] = (key, _identity(path), time.monotonic())
        return key

    def existing(self, owner: Owner) -> DataKey:
        """The owner's key.

        Raises:
            ContentError: its file is damaged or of another site key.
            FileNotFoundError: there is none (any more).
        """
        with self._path(owner).open("rb") as stream:
            return self._site_key.unwrap(owner, stream.read(_MAX_KEY_BYTES))

    def forget(self, *, everything: bool = False) -> None:
        """Drop keys from memory that were read a minute ago."""
        old = time.monotonic() - _FORGET_SECONDS
        for owner, (_, _, since) in list(self._known.items()):
            if everything or since < old:
                del self._known[owner]

    # --- inner ------------------------------------------------------------------------------

    def _path(self, owner: Owner) -> Path:
        return self._directory / owner.day / _KEYS / f"{owner.subject}.key"

    def _make(self, owner: Owner, path: Path) -> DataKey:
        key, data = self._site_key.make(owner)
        scratch = path.with_name(f".{owner.subject}.{os.getpid()}")
        scratch.unlink(missing_ok=True)
        descriptor = os.open(scratch, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, data)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        try:
            # Another worker may make the same key now: the first name counts, for all.
            os.link(scratch, path)
        except FileExistsError:
            key = self.existing(owner)
        finally:
            scratch.unlink()
        sync_directory(path.parent)
        return key


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold a day's ``folder`` alone: nobody uses its keys meanwhile.

    Raises:
        OSError: it cannot be had within two seconds, or not at all.
    """
    with _held(folder, fcntl.LOCK_EX):
        yield


@contextmanager
def _held(folder: Path, kind: int) -> Iterator[None]:
    descriptor = os.open(folder / _LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        _lock(descriptor, kind)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, kind: int) -> None:
    end = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() > end:
                raise OSError(errno.EAGAIN, "another process holds the day's content") from error
            time.sleep(_PAUSE)
        else:
            return


def destroy(folder: Path, subject: str | None = None) -> int:
    """Destroy the keys of a day's ``folder``, of one subject or of all; returns how many.

    The day must be held alone. Bytes are overwritten before the name goes: a copy-on-write file
    system or a flash disk may keep the old ones, wrapped with the site key.

    Raises:
        OSError: a file could not be overwritten or removed.
    """
    keys = folder / _KEYS
    name = subject or "*"
    count = 0
    # What a crash may have left is another name of the same key.
    for path in [*keys.glob(f"{name}.key"), *keys.glob(f".{name}.*")]:
        with path.open("r+b", buffering=0) as stream:
            stream.write(bytes(max(1, path.stat().st_size)))
            os.fsync(stream.fileno())
        path.unlink()
        count += path.suffix == ".key"
    if keys.is_dir():
        sync_directory(keys)
    return count


def days(directory: Path) -> list[str]:
    """The days there is content of, oldest first."""
    if not directory.is_dir():
        return []
    return sorted(path.name for path in directory.iterdir() if _DAY.fullmatch(path.name))


def _identity(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_ino, found.st_mtime_ns
