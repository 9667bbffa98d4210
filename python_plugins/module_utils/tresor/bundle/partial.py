"""A large content on its way: what is on our disk of it, and how far that can be believed.

Beside ``<sha256>.part`` lies ``<sha256>.state``: the length and digest of what was flushed, and the
shards that arrived out of order from other volumes. It is only a claim: before a copy goes on, the
claimed bytes are hashed again from our own disk, and what does not agree is copied anew.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType

from . import stream
from .canonical import dump_canonical
from .errors import BundleError, EnvironmentNotReadyError, RejectedError
from .layout import write_atomic
from .manifest import FileEntry
from .medium import Volume, shards, whole

CHECKPOINT_BYTES = 1024 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes of the medium that belong at one place of a content; ``shard`` is -1 without shards."""

    path: str
    source_offset: int
    target_offset: int
    length: int
    to_end: bool
    shard: int = -1
    sha256: str = ""


def pieces_of(entry: FileEntry, volume: Volume) -> list[Piece]:
    """Return the pieces of a content that are on a volume, in order."""
    found = volume.pieces(entry)
    if not entry.shards:
        return [Piece(whole(entry), 0, 0, entry.size, to_end=True)] if found else []
    sizes = list(shards(entry).values())
    as_whole = found.get(0) == whole(entry)
    pieces = []
    for number, digest in enumerate(entry.shards):
        if not as_whole and number not in found:
            continue
        start = number * entry.shard_size
        pieces.append(
            Piece(
                path=whole(entry) if as_whole else found[number],
                source_offset=start if as_whole else 0,
                target_offset=start,
                length=sizes[number],
                to_end=not as_whole or number == len(sizes) - 1,
                shard=number,
                sha256=digest,
            )
        )
    return pieces


class Partial:
    """The growing file; use as a context manager."""

    def __init__(self, staging: Path, entry: FileEntry) -> None:
        self._entry = entry
        self._final = staging / entry.sha256
        self._part = staging / f"{entry.sha256}.part"
        self._state = staging / f"{entry.sha256}.state"
        self._hash = hashlib.sha256()
        self._own = hashlib.sha256()
        self._prefix = 0  # bytes from the start that are hashed and written
        self._saved = 0
        self._done: set[int] = set()  # shards beyond the prefix
        self._descriptor = -1
        self.direct = entry.size >= stream.DIRECT_MIN_BYTES and (
            not entry.shards or entry.shard_size % stream.ALIGN == 0
        )

    @property
    def bytes_done(self) -> int:
        """Return how many bytes need not be asked of a medium again."""
        sizes = list(shards(self._entry).values())
        return self._prefix + sum(sizes[number] for number in self._done)

    @property
    def complete(self) -> bool:
        """Tell whether every byte is here."""
        return self.bytes_done == self._entry.size

    def __enter__(self) -> Partial:
        if not self._load():
            self._part.unlink(missing_ok=True)
            self._state.unlink(missing_ok=True)
            self._hash, self._prefix, self._done = hashlib.sha256(), 0, set()
        self._saved = self._prefix
        try:
            self._descriptor = stream.open_direct(self._open, direct=self.direct)
            os.posix_fallocate(self._descriptor, 0, self._entry.size)
        except OSError as error:
            self._close()
            raise write_error(self._part, error) from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            # The medium was pulled out: keep what came so far. A shard is kept as a whole.
            aligned = self._prefix % stream.ALIGN == 0 and not self._entry.shards
            if isinstance(error, EnvironmentNotReadyError) and aligned and self._descriptor >= 0:
                self.save()
        except BundleError:
            pass  # the first error is the one to tell
        finally:
            self._close()

    def todo(self, piece: Piece) -> Iterator[Piece]:
        """Yield what of a piece is still wanted."""
        self._own = hashlib.sha256()
        if piece.shard < 0:
            yield replace(
                piece,
                source_offset=self._prefix,
                target_offset=self._prefix,
                length=piece.length - self._prefix,
            )
        elif piece.target_offset >= self._prefix and piece.shard not in self._done:
            yield piece

    def write(self, view: memoryview, count: int, offset: int) -> None:
        """Hash and write bytes at their place; the tail of ``view`` beyond ``count`` is lost.

        Raises:
            EnvironmentNotReadyError: ``space.full``, ``environment.write``.
        """
        data = view[:count]
        if self._entry.shards:
            self._own.update(data)
        if offset == self._prefix:
            self._hash.update(data)
            self._prefix += count
        try:
            stream.write_at(self._descriptor, view, count, offset)
        except OSError as error:
            raise write_error(self._part, error) from error
        if not self._entry.shards and self._prefix - self._saved >= CHECKPOINT_BYTES:
            self.save()

    def end_of(self, piece: Piece) -> None:
        """Check a shard that was written; remember it now and then.

        Raises:
            RejectedError: rule ``content.digest``.
        """
        if piece.shard < 0:
            return
        if self._own.hexdigest() != piece.sha256:
            raise RejectedError("content.digest", "shard is not what the manifest says", piece.path)
        if piece.target_offset + piece.length != self._prefix:
            self._done.add(piece.shard)
        if self.bytes_done - self._saved >= CHECKPOINT_BYTES:
            self.save()

    def save(self) -> None:
        """Flush the data, then claim it.

        Raises:
            EnvironmentNotReadyError: ``space.full``, ``environment.write``.
        """
        claim = {
            "prefix": self._prefix,
            "sha256": self._hash.copy().hexdigest(),
            "shards": sorted(self._done),
        }
        try:
            os.fdatasync(self._descriptor)
            write_atomic(self._state, dump_canonical(claim) + b"\n", 0o600)
        except OSError as error:
            raise write_error(self._part, error) from error
        self._saved = self.bytes_done

    def digest(self) -> str:
        """Return the SHA-256 of the whole content; read from our disk if it came out of order."""
        if self._prefix == self._entry.size:
            return self._hash.hexdigest()
        try:
            os.fdatasync(self._descriptor)
            return stream.hash_prefix(self._part, self._entry.size).hexdigest()
        except OSError as error:
            raise write_error(self._part, error) from error

    def finish(self) -> None:
        """Give the complete and checked content its name."""
        try:
            os.ftruncate(self._descriptor, self._entry.size)
            os.fchmod(self._descriptor, 0o444)
            os.fdatasync(self._descriptor)
            self._part.replace(self._final)
            self._state.unlink(missing_ok=True)
        except OSError as error:
            raise write_error(self._part, error) from error

    def _open(self, flags: int) -> int:
        return os.open(
            self._part, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | flags, 0o600
        )

    def _close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _load(self) -> bool:
        """Take over what an earlier run left, as far as our own disk confirms it."""
        entry = self._entry
        try:
            claim = json.loads(self._state.read_bytes())
            prefix, numbers = int(claim["prefix"]), [int(number) for number in claim["shards"]]
            step = entry.shard_size or stream.ALIGN
            if not 0 <= prefix <= entry.size or (prefix % step and prefix != entry.size):
                return False
            self._hash = stream.hash_prefix(self._part, prefix)
            if self._hash.hexdigest() != claim["sha256"]:
                return False
            self._prefix = prefix
            self._done = {number for number in numbers if self._shard_is_good(number)}
        except (OSError, ValueError, KeyError, TypeError, IndexError):
            return False
        return True

    def _shard_is_good(self, number: int) -> bool:
        entry = self._entry
        start = number * entry.shard_size
        if number < 0 or start < self._prefix:
            return False
        digest = hashlib.sha256()
        left = min(entry.shard_size, entry.size - start)
        with self._part.open("rb", buffering=0) as source:
            source.seek(start)
            while left:
                data = source.read(min(left, stream.CHUNK_BYTES))
                if not data:
                    return False
                digest.update(data)
                left -= len(data)
        return digest.hexdigest() == entry.shards[number]


def write_error(path: Path | str, error: OSError) -> BundleError:
    """Return the error for a write that failed."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return EnvironmentNotReadyError(
            "space.full", "the store's disk is full; free space and repeat the command", str(path)
        )
    return EnvironmentNotReadyError(
        "environment.write", f"cannot write: {error.strerror or error}", str(path)
    )
