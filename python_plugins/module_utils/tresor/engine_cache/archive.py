"""``cache.tar``: exactly the files of the record, in its order, and nothing about their origin."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Callable
from typing import BinaryIO

from ..bundle.errors import RejectedError
from .record import ARCHIVE_FILE, CacheFile, Record

_CHUNK = 1024 * 1024


def write(record: Record, opened: Callable[[CacheFile], BinaryIO], target: BinaryIO) -> None:
    """Write the archive; the same record and contents give the same bytes."""
    with tarfile.open(fileobj=target, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for entry in record.files:
            member = tarfile.TarInfo(entry.path)
            member.size, member.mode = entry.size, 0o600
            with opened(entry) as source:
                archive.addfile(member, source)


def check(record: Record, source: BinaryIO) -> None:
    """Read the whole archive and compare it with the record.

    Raises:
        RejectedError: rule ``cache.archive``: another member, another content, something after it.
    """
    try:
        with tarfile.open(fileobj=source, mode="r:") as archive:
            for entry in record.files:
                _compare(archive, archive.next(), entry)
            extra = archive.next()
    except (tarfile.TarError, ValueError, EOFError) as error:
        raise RejectedError(
            "cache.archive", f"no readable archive: {error}", ARCHIVE_FILE
        ) from error
    if extra is not None:
        raise RejectedError("cache.archive", "is not in the record", ascii(extra.name)[1:-1])
    source.seek(0, io.SEEK_SET)


def _compare(archive: tarfile.TarFile, member: tarfile.TarInfo | None, entry: CacheFile) -> None:
    if member is None or member.name != entry.path:
        seen = "nothing" if member is None else ascii(member.name)
        raise RejectedError("cache.archive", f"the archive has {seen} in its place", entry.path)
    # A sparse file is one whose size says nothing of what is read.
    if member.type != tarfile.REGTYPE or member.issparse() or member.size != entry.size:
        raise RejectedError("cache.archive", "is no plain file of the recorded size", entry.path)
    digest = hashlib.sha256()
    content = archive.extractfile(member)
    while content is not None and (chunk := content.read(_CHUNK)):
        digest.update(chunk)
    if digest.hexdigest() != entry.sha256:
        raise RejectedError("cache.archive", "its content is not the recorded one", entry.path)
