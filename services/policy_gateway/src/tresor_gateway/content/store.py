"""The files of the content store: sealed frames, appended by one writer per process.

``<directory>/<day>/<writer>.content`` holds frames, ``<day>/keys/`` the wrapped keys. An audit
record says where its frame begins, so what a crash leaves at the end of a file is never read.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Final

from tresor_gateway.audit.record import ContentRef
from tresor_gateway.content.crypto import ContentError, Owner, SiteKey
from tresor_gateway.content.keyring import (
    Keyring,
    alone,
    check_owner,
    days,
    destroy,
    sync_directory,
)
from tresor_gateway.content.policy import Kept

_MAGIC: Final = b"TRC1"
_HEAD: Final = struct.Struct(">4sI16s")
_FILE_MODE: Final = 0o600
_PROBE: Final = ".probe"


@dataclass(frozen=True)
class Item:
    """What is to be kept of one record."""

    owner: Owner
    record: str
    kept: Kept
    text: bytes


class Store:
    """The store as a gateway's worker ``writer`` sees it."""

    def __init__(
        self, directory: Path, writer: str, site_key: SiteKey, *, min_free_bytes: int
    ) -> None:
        self._directory = directory
        self._writer = writer
        self._keys = Keyring(directory, site_key)
        self._min_free = min_free_bytes
        self._day = ""
        self._file = -1

    @property
    def free_bytes(self) -> int:
        """What the file system has left for us."""
        found = os.statvfs(self._directory)
        return found.f_bavail * found.f_frsize

    def append(self, day: str, items: Sequence[Item]) -> list[ContentRef]:
        """Seal and write the items of one day and make them durable.

        On an error nothing of it counts as written; the file is cut back.

        Raises:
            ContentError: a key cannot be used.
            OSError: the disk is full, nearly full, or gone.
        """
        self._check_space()
        with self._keys.using(day) as folder:
            descriptor = self._open(folder, day)
            start = offset = os.lseek(descriptor, 0, os.SEEK_END)
            out: list[bytes] = []
            refs: list[ContentRef] = []
            for item in items:
                key = self._keys.key(item.owner)
                sealed = key.seal(item.owner, item.record, item.text)
                out += (_HEAD.pack(_MAGIC, len(sealed), key.id), sealed)
                refs.append(
                    ContentRef(
                        kept=item.kept,
                        sha256=hashlib.sha256(sealed).hexdigest(),
                        bytes=len(sealed),
                        file=f"{day}/{self._writer}.content",
                        offset=offset,
                        key=key.id.hex(),
                    )
                )
                offset += _HEAD.size + len(sealed)
            try:
                view = memoryview(b"".join(out))
                while view:
                    view = view[os.write(descriptor, view) :]
                os.fdatasync(descriptor)
            except Exception:
                os.ftruncate(descriptor, start)
                raise
        self._keys.forget()
        return refs

    def probe(self) -> None:
        """Whether something can be written now.

        Raises:
            OSError: it cannot.
        """
        self._check_space()
        path = self._directory / f"{_PROBE}-{self._writer}"
        descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, _FILE_MODE)
        try:
            os.write(descriptor, bytes(4096))
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)
            path.unlink()

    def forget(self, *, everything: bool = False) -> None:
        """Drop keys from memory that have not been looked at lately."""
        self._keys.forget(everything=everything)

    def close(self) -> None:
        """Close the file and forget the keys."""
        self.forget(everything=True)
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    # --- inner ------------------------------------------------------------------------------

    def _check_space(self) -> None:
        free = self.free_bytes
        if free < self._min_free:
            raise OSError(errno.ENOSPC, f"only {free} bytes are free, {self._min_free} must stay")

    def _open(self, folder: Path, day: str) -> int:
        # A file that somebody removed meanwhile would swallow what is written to it.
        if self._day == day and self._file >= 0 and os.fstat(self._file).st_nlink:
            return self._file
        path = folder / f"{self._writer}.content"
        descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, _FILE_MODE)
        sync_directory(folder)
        if self._file >= 0:
            os.close(self._file)
        self._file, self._day = descriptor, day
        return descriptor


def read(directory: Path, site_key: SiteKey, owner: Owner, record: str, ref: ContentRef) -> bytes:
    """What was kept for a record.

    Raises:
        ContentError: erased, expired, damaged, or not what the record speaks of.
    """
    check_owner(owner)
    path = directory / ref.file
    if path.parent != directory / owner.day or path.suffix != ".content":
        raise ContentError(f"content.file {ref.file!r} is no file of {owner.day}")
    try:
        with path.open("rb") as stream:
            stream.seek(ref.offset)
            head = stream.read(_HEAD.size)
            sealed = stream.read(ref.bytes)
    except FileNotFoundError as error:
        raise ContentError(f"{path} is gone: its time is over, or it was never here") from error
    if len(head) != _HEAD.size or len(sealed) != ref.bytes:
        raise ContentError(f"{path} ends before the content at {ref.offset}")
    magic, size, key_id = _HEAD.unpack(head)
    if (magic, size, key_id.hex()) != (_MAGIC, ref.bytes, ref.key):
        raise ContentError(f"{path} has no content of this record at {ref.offset}")
    if hashlib.sha256(sealed).hexdigest() != ref.sha256:
        raise ContentError(f"{path}: the content at {ref.offset} was changed since it was recorded")
    try:
        key = Keyring(directory, site_key).existing(owner)
    except FileNotFoundError as error:
        raise ContentError(
            f"the key of {owner.subject} on {owner.day} was destroyed: this content is erased"
        ) from error
    if key.id != key_id:
        raise ContentError(
            f"the key that this was sealed with was destroyed: this content is erased "
            f"(a later one of {owner.subject} on {owner.day} exists)"
        )
    return key.open(owner, record, sealed)


def erase(directory: Path, owner: Owner) -> int:
    """Destroy the owner's key; returns how many there were (0 or 1).

    Raises:
        ContentError: no name of a day or subject.
        OSError: it could not be destroyed.
    """
    check_owner(owner)
    folder = directory / owner.day
    if not folder.is_dir():
        return 0
    with alone(folder):
        return destroy(folder, owner.subject)


def expire(directory: Path, today: date, retention_days: int) -> list[str]:
    """Remove the days that are older than ``retention_days``, keys first; returns them.

    Raises:
        OSError: something could not be removed.
    """
    oldest = (today - timedelta(days=retention_days)).isoformat()
    gone = [day for day in days(directory) if day < oldest]
    for day in gone:
        folder = directory / day
        with alone(folder):
            destroy(folder)
            shutil.rmtree(folder)
    if gone:
        sync_directory(directory)
    return gone
