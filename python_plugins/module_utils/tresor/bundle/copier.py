"""One pass from the medium into the store: the bytes that are hashed are the bytes that are kept.

Files are copied in parallel by a few threads (hashing and I/O release the interpreter lock).
What a killed run left complete is hashed again from our own disk, never believed.
"""

from __future__ import annotations

import errno
import hashlib
import os
import threading
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

from .errors import BundleError, EnvironmentNotReadyError, RejectedError
from .layout import Store, sync_file_system
from .manifest import FileEntry
from .medium import Medium, pieces
from .progress import Progress
from .trust import VerifiedMetadata

CHUNK_BYTES = 4 * 1024 * 1024
WORKERS = 2
SPACE_MARGIN = 1.05


@dataclass(frozen=True, slots=True)
class CopyResult:
    """How the contents came to be here; counts of files and bytes."""

    copied: int
    copied_bytes: int
    kept: int


class Copier:
    """Brings every content of a bundle into ``staging/<bundle>`` or finds it in the store."""

    def __init__(
        self,
        medium: Medium,
        store: Store,
        verified: VerifiedMetadata,
        progress: Progress,
        workers: int | None = None,
    ) -> None:
        self._medium = medium
        self._store = store
        self._verified = verified
        self._progress = progress
        self._workers = workers or WORKERS
        self._staging = store.staging(verified.bundle_sha256)
        self._stop = threading.Event()

    def run(self, blobs: list[FileEntry]) -> CopyResult:
        """Copy or re-verify all contents, largest first.

        Raises:
            RejectedError: ``content.digest``, ``content.size``, ``content.missing``.
            EnvironmentNotReadyError: ``medium.gone``, ``space.full``, ``environment.write``.
        """
        self._staging.mkdir(mode=0o700, parents=True, exist_ok=True)
        for leftover in self._staging.glob("*.part"):
            leftover.unlink()
        ordered = sorted(blobs, key=lambda entry: (-entry.size, entry.sha256))
        with ThreadPoolExecutor(self._workers, thread_name_prefix="copy") as pool:
            futures = [pool.submit(self._one, entry) for entry in ordered]
            wait(futures, return_when=FIRST_EXCEPTION)
            for future in futures:
                future.cancel()
        failures = [
            error for future in futures if not future.cancelled() and (error := future.exception())
        ]
        if failures:
            raise min(failures, key=_weight)
        sync_file_system(self._staging)
        self._progress.finish()
        outcomes = [future.result() for future in futures]
        return CopyResult(
            sum(size is not None for size in outcomes),
            sum(size or 0 for size in outcomes),
            sum(size is None for size in outcomes),
        )

    def publish(self, blobs: list[FileEntry]) -> None:
        """Move checked contents to their place in the store, read-only."""
        folders = set()
        for entry in blobs:
            staged = self._staging / entry.sha256
            target = self._store.blob(entry.sha256)
            if staged.exists():
                target.parent.mkdir(mode=0o755, exist_ok=True)
                staged.chmod(0o444)
                staged.replace(target)
                folders.add(target.parent)
        if folders:
            sync_file_system(self._store.root)

    def locate(self, sha256: str) -> Path:
        """Return where a content lies now: staged or stored."""
        staged = self._staging / sha256
        return staged if staged.exists() else self._store.blob(sha256)

    def _one(self, entry: FileEntry) -> int | None:
        """Return the bytes copied, None if a verified content was already here."""
        if self._stop.is_set():
            return None
        try:
            if self._already_here(entry):
                return None
            self._copy(entry)
        except BaseException:
            self._stop.set()
            raise
        return entry.size

    def _already_here(self, entry: FileEntry) -> bool:
        for path in (self._staging / entry.sha256, self._store.blob(entry.sha256)):
            if not path.is_file():
                continue
            if path.stat().st_size == entry.size and hash_file(path) == entry.sha256:
                self._progress.add(entry.size)
                return True
            # Damaged on our disk: the medium's copy takes its place.
            path.unlink()
        return False

    def _copy(self, entry: FileEntry) -> None:
        part = self._staging / f"{entry.sha256}.part"
        digest = hashlib.sha256()
        try:
            target = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise _write_error(part, error) from error
        with os.fdopen(target, "wb", buffering=0) as stream:
            try:
                if entry.size:
                    os.posix_fallocate(stream.fileno(), 0, entry.size)
            except OSError as error:
                raise _write_error(part, error) from error
            for number, (path, size) in enumerate(pieces(entry).items()):
                shard = entry.shards[number] if entry.shards else None
                self._piece(path, size, shard, digest, stream.fileno())
        if digest.hexdigest() != entry.sha256:
            raise RejectedError(
                "content.digest",
                f"SHA-256 is {digest.hexdigest()}, the manifest says {entry.sha256}",
                entry.path,
            )
        part.replace(self._staging / entry.sha256)

    def _piece(
        self, path: str, size: int, shard: str | None, digest: hashlib._Hash, target: int
    ) -> None:
        try:
            source = self._medium.open(path)
        except FileNotFoundError as error:
            raise self._missing(path, error) from error
        own = hashlib.sha256() if shard else None
        left = size
        buffer = memoryview(bytearray(min(CHUNK_BYTES, max(size, 1))))
        with os.fdopen(source, "rb", buffering=0) as stream:
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
            while True:
                if self._stop.is_set():
                    raise EnvironmentNotReadyError("state.stopped", "stopped by another failure")
                try:
                    count = stream.readinto(buffer[: min(len(buffer), left + 1)])
                except OSError as error:
                    raise self._medium.gone(path, error) from error
                if not count:
                    break
                left -= count
                if left < 0:
                    raise RejectedError("content.size", f"more than {size} bytes", path)
                chunk = buffer[:count]
                digest.update(chunk)
                if own:
                    own.update(chunk)
                _write_all(target, chunk, path)
                self._progress.add(count)
        if left:
            if not self._medium.alive(self._verified):
                raise self._medium.gone(path, OSError(errno.EIO, "the file ended early"))
            raise RejectedError("content.size", f"{left} of {size} bytes are missing", path)
        if own and own.hexdigest() != shard:
            raise RejectedError("content.digest", "shard is not what the manifest says", path)

    def _missing(self, path: str, error: OSError) -> BundleError:
        if not self._medium.alive(self._verified):
            return self._medium.gone(path, error)
        return RejectedError("content.missing", "listed file is not on the medium", path)


def missing_bytes(store: Store, bundle: str, blobs: list[FileEntry]) -> int:
    """Return how many bytes an import still has to write."""
    return sum(
        entry.size
        for entry in blobs
        if not store.blob(entry.sha256).exists()
        and not (store.staging(bundle) / entry.sha256).exists()
    )


def space_needed(store: Store, bundle: str, blobs: list[FileEntry]) -> int:
    """Return how many bytes must be free before an import goes on."""
    return int(missing_bytes(store, bundle, blobs) * SPACE_MARGIN)


def damaged_contents(store: Store, blobs: list[FileEntry], progress: Progress) -> list[FileEntry]:
    """Hash contents at rest in the store; return those that are missing or not what they were."""

    def is_damaged(entry: FileEntry) -> bool:
        path = store.blob(entry.sha256)
        try:
            damaged = path.stat().st_size != entry.size or hash_file(path) != entry.sha256
        except OSError:
            damaged = True
        progress.add(entry.size)
        return damaged

    with ThreadPoolExecutor(WORKERS, thread_name_prefix="check") as pool:
        verdicts = list(pool.map(is_damaged, blobs))
    progress.finish()
    return [entry for entry, damaged in zip(blobs, verdicts, strict=True) if damaged]


def hash_file(path: Path) -> str:
    """Return the SHA-256 (hex) of a file of ours."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _weight(error: BaseException) -> int:
    """Order failures: a wrong content must not be hidden by what followed from stopping."""
    if isinstance(error, RejectedError):
        return 0
    return 2 if isinstance(error, BundleError) and error.rule == "state.stopped" else 1


def _write_all(target: int, chunk: memoryview, path: str) -> None:
    try:
        while chunk:
            chunk = chunk[os.write(target, chunk) :]
    except OSError as error:
        raise _write_error(path, error) from error


def _write_error(path: Path | str, error: OSError) -> BundleError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return EnvironmentNotReadyError(
            "space.full", "the store's disk is full; free space and repeat the command", str(path)
        )
    return EnvironmentNotReadyError(
        "environment.write", f"cannot write: {error.strerror or error}", str(path)
    )
