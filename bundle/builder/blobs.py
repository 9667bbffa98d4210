"""Content-addressed files in the cache: ``blobs/<aa>/<sha256>``, complete or absent."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bundle.builder.errors import DigestError

_CHUNK = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True, order=True)
class Blob:
    """A content: ``sha256`` as 64 hex digits, ``size`` in bytes."""

    sha256: str
    size: int


def hash_file(path: Path) -> Blob:
    """Return digest and size of a file."""
    digest = hashlib.sha256()
    size = 0
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
    return Blob(digest.hexdigest(), size)


class BlobStore:
    """The cache's contents. A file gets its final name only when it is complete and hashed."""

    def __init__(self, cache: Path) -> None:
        self.cache = cache
        self._blobs = cache / "blobs"
        self._tmp = cache / "tmp"
        self._blobs.mkdir(parents=True, exist_ok=True)
        self._tmp.mkdir(parents=True, exist_ok=True)

    def path(self, sha256: str) -> Path:
        """Return where the content with this digest lies, or would lie."""
        return self._blobs / sha256[:2] / sha256

    def has(self, blob: Blob) -> bool:
        """Tell whether the content is there in full length."""
        try:
            return self.path(blob.sha256).stat().st_size == blob.size
        except FileNotFoundError:
            return False

    def add_bytes(self, raw: bytes) -> Blob:
        """Store ``raw`` and return its blob."""
        blob = Blob(hashlib.sha256(raw).hexdigest(), len(raw))
        if not self.has(blob):
            with self.workdir("bytes") as folder:
                source = folder / "content"
                source.write_bytes(raw)
                self._publish(source, blob)
        return blob

    def add_file(self, source: Path, expected: Blob | None = None) -> Blob:
        """Hash ``source``, then move it in (same file system) or copy it.

        Raises:
            DigestError: ``expected`` is given and the file is another one.
        """
        blob = hash_file(source)
        if expected is not None and blob != expected:
            raise DigestError(
                f"{source.name} has sha256 {blob.sha256} and {blob.size} bytes, the lock says "
                f"{expected.sha256} and {expected.size}: what was delivered is not what was "
                "reviewed; find out why before renewing the lock"
            )
        if not self.has(blob):
            self._publish(source, blob)
        return blob

    def verify(self, blob: Blob) -> None:
        """Read the content again and compare.

        Raises:
            DigestError: the cache is damaged; the file is removed so that it is fetched again.
        """
        path = self.path(blob.sha256)
        seen = hash_file(path)
        if seen != blob:
            path.unlink()
            raise DigestError(
                f"cache file {path} was damaged (sha256 {seen.sha256}) and is removed: run again"
            )

    @contextmanager
    def workdir(self, purpose: str) -> Iterator[Path]:
        """Yield an empty folder on the cache's file system; it vanishes afterwards.

        Folders of runs that were killed are recognised by their free lock and removed.
        """
        self._sweep()
        folder = Path(tempfile.mkdtemp(prefix=f"{purpose}-", dir=self._tmp))
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(handle)

    def _sweep(self) -> None:
        for folder in self._tmp.iterdir():
            try:
                handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            except OSError:
                continue
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            else:
                # Its maker may sit between mkdtemp and flock: only old folders are leftovers.
                if _age_seconds(folder) > 60:
                    shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(handle)

    def _publish(self, source: Path, blob: Blob) -> None:
        target = self.path(blob.sha256)
        target.parent.mkdir(exist_ok=True)
        if source.stat().st_dev != target.parent.stat().st_dev or self._tmp not in source.parents:
            with self.workdir("copy") as folder:
                copy = folder / "content"
                shutil.copyfile(source, copy)
                if hash_file(copy) != blob:
                    raise DigestError(f"{source} changed while it was copied: run again")
                self._rename(copy, target)
        else:
            self._rename(source, target)

    @staticmethod
    def _rename(source: Path, target: Path) -> None:
        source.chmod(0o444)
        handle = os.open(source, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
        source.replace(target)


def _age_seconds(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
