"""One pass from the medium into the store: the bytes that are hashed are the bytes that are kept.

Large files go past the page cache, two at a time; small ones a few at a time. What a killed run
left is hashed again from our own disk, never believed and never asked of the medium a second time.
"""

from __future__ import annotations

import errno
import hashlib
import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from . import stream, verity
from .errors import BundleError, EnvironmentNotReadyError, RejectedError
from .layout import Store, sync_file_system, sync_folder
from .manifest import FileEntry
from .medium import Medium, Volume, whole
from .partial import Partial, Piece, pieces_of, write_error
from .progress import Progress
from .stream import hash_file
from .trust import VerifiedMetadata

WORKERS = 2
SMALL_WORKERS = 4
SPACE_MARGIN = 1.05
_FEW_FOLDERS = 16


@dataclass(frozen=True, slots=True)
class CopyResult:
    """How the contents came to be here; counts of files and bytes.

    ``read_bytes`` were read from the medium in this run, ``resumed_bytes`` had been copied by an
    earlier one, ``waiting`` contents lie on another volume.
    """

    copied: int
    copied_bytes: int
    kept: int
    read_bytes: int
    resumed_bytes: int
    waiting: int


@dataclass(frozen=True, slots=True)
class _One:
    """What became of one content."""

    state: str
    read: int = 0
    resumed: int = 0


class Copier:
    """Brings every content of a bundle into ``staging/<bundle>`` or finds it in the store."""

    def __init__(
        self,
        medium: Medium,
        store: Store,
        verified: VerifiedMetadata,
        volume: Volume,
        progress: Progress,
    ) -> None:
        self._medium = medium
        self._store = store
        self._verified = verified
        self._volume = volume
        self._progress = progress
        self._staging = store.staging(verified.bundle_sha256)
        self._stop = threading.Event()
        self._local = threading.local()
        self._lock = threading.Lock()
        self._folders: list[int] = []
        self._staged: set[str] = set()
        self._stored: set[str] = set()

    def run(self, blobs: list[FileEntry]) -> CopyResult:
        """Copy or re-verify all contents that are on this volume, largest first.

        Raises:
            RejectedError: ``content.digest``, ``content.size``, ``content.missing``.
            EnvironmentNotReadyError: ``medium.gone``, ``space.full``, ``environment.write``,
                ``state.content``.
        """
        self._staging.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._sweep(blobs)
        self._staged = set(_names(self._staging))
        self._stored = _stored(self._store, blobs)
        ordered = sorted(blobs, key=lambda entry: (-entry.size, entry.sha256))
        large = [entry for entry in ordered if entry.size >= stream.DIRECT_MIN_BYTES]
        outcomes = self._all(large, WORKERS)
        outcomes += self._all(ordered[len(large) :], SMALL_WORKERS if WORKERS > 1 else 1)
        # Large contents were flushed one by one; the small ones are flushed all at once.
        if any(outcome.state == "copied" for outcome in outcomes[len(large) :]):
            sync_file_system(self._staging)
        else:
            sync_folder(self._staging)
        self._progress.finish()
        copied = [
            entry
            for entry, outcome in zip(ordered, outcomes, strict=True)
            if outcome.state == "copied"
        ]
        return CopyResult(
            copied=len(copied),
            copied_bytes=sum(entry.size for entry in copied),
            kept=sum(outcome.state == "kept" for outcome in outcomes),
            read_bytes=sum(outcome.read for outcome in outcomes),
            resumed_bytes=sum(outcome.resumed for outcome in outcomes),
            waiting=sum(outcome.state == "waiting" for outcome in outcomes),
        )

    def publish(self, blobs: list[FileEntry]) -> int:
        """Move checked contents to their place in the store, read-only; return how many are sealed.

        Sealing (fs-verity) is an addition where kernel and file system have it.
        """
        folders = set()
        names = set(_names(self._staging))
        here = [entry.sha256 for entry in blobs if entry.sha256 in names]
        sealed = verity.seal_all(self._staging / name for name in here)
        for name in here:
            target = self._store.blob(name)
            if target.parent not in folders:
                target.parent.mkdir(mode=0o755, exist_ok=True)
                folders.add(target.parent)
            (self._staging / name).replace(target)
        if len(folders) <= _FEW_FOLDERS:
            for folder in folders:
                sync_folder(folder)
            sync_folder(self._store.root / "blobs")
        else:
            sync_file_system(self._store.root)
        return sealed

    def locate(self, sha256: str) -> Path:
        """Return where a content lies now: staged or stored."""
        staged = self._staging / sha256
        return staged if staged.exists() else self._store.blob(sha256)

    def _sweep(self, blobs: Sequence[FileEntry]) -> None:
        """Remove what belongs to no content of this bundle."""
        known = {entry.sha256 for entry in blobs}
        for path in self._staging.iterdir():
            if path.name.partition(".")[0] not in known:
                path.unlink()

    def _all(self, entries: Sequence[FileEntry], workers: int) -> list[_One]:
        try:
            with ThreadPoolExecutor(workers, thread_name_prefix="copy") as pool:
                futures = [pool.submit(self._one, entry) for entry in entries]
                wait(futures, return_when=FIRST_EXCEPTION)
                if any(future.done() and future.exception() for future in futures):
                    self._stop.set()
                    for future in futures:
                        future.cancel()
        finally:
            while self._folders:
                os.close(self._folders.pop())
        failures = [
            error for future in futures if not future.cancelled() and (error := future.exception())
        ]
        if failures:
            raise min(failures, key=_weight)
        return [future.result() for future in futures]

    def _one(self, entry: FileEntry) -> _One:
        if self._stop.is_set():
            return _One("stopped")
        try:
            damaged = False
            for path in self._found(entry):
                if _is_whole(path, entry):
                    self._progress.add(entry.size)
                    return _One("kept")
                damaged = True
            return self._bring(entry, damaged=damaged)
        except BaseException:
            self._stop.set()
            raise

    def _found(self, entry: FileEntry) -> list[Path]:
        """Return where a content seems to be already."""
        found = [self._staging / entry.sha256] if entry.sha256 in self._staged else []
        if entry.sha256 in self._stored:
            found.append(self._store.blob(entry.sha256))
        return found

    def _bring(self, entry: FileEntry, *, damaged: bool) -> _One:
        if not self._volume.pieces(entry):
            if self._volume.of > 1:
                return _One("waiting")
            if damaged:
                raise EnvironmentNotReadyError(
                    "state.content",
                    "a content that this bundle takes from an earlier one changed in the store. "
                    "Find out who or what wrote there and import a complete bundle",
                    str(self._store.blob(entry.sha256)),
                )
            raise self._missing(whole(entry), OSError(errno.ENOENT, "not there any more"))
        (self._staging / entry.sha256).unlink(missing_ok=True)
        if entry.size < stream.DIRECT_MIN_BYTES and not entry.shards:
            self._copy_small(entry)
            return _One("copied", entry.size)
        return self._copy_large(entry)

    def _copy_small(self, entry: FileEntry) -> None:
        """Read a whole small file, and write those very bytes if they are the right ones."""
        (piece,) = pieces_of(entry, self._volume)
        direct = entry.size >= stream.DIRECT_SMALL_BYTES
        view = self._small_buffer()
        with self._reading(piece, direct=direct) as source:
            try:
                count = stream.read_at(source, view[: stream.aligned(entry.size + 1)], 0)
            except OSError as error:
                raise self._medium.gone(piece.path, error) from error
        self._check_length(piece.path, entry.size, count)
        seen = hashlib.sha256(view[:count]).hexdigest()
        if seen != entry.sha256:
            raise _wrong(entry, seen)
        target = self._staging / entry.sha256
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            descriptor = stream.open_direct(
                lambda more: os.open(target, flags | more, 0o600), direct=direct
            )
            try:
                stream.write_at(descriptor, view, count, 0)
                if count % stream.ALIGN:
                    os.ftruncate(descriptor, count)
                os.fchmod(descriptor, 0o444)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise write_error(target, error) from error
        self._progress.add(count)

    def _copy_large(self, entry: FileEntry) -> _One:
        partial = Partial(self._staging, entry)
        read = 0
        with partial:
            resumed = partial.bytes_done
            self._progress.add(resumed)
            for piece in pieces_of(entry, self._volume):
                for part in partial.todo(piece):
                    self._pump(part, partial)
                    read += part.length
                    partial.end_of(part)
            if not partial.complete:
                partial.save()
                return _One("waiting", read, resumed)
            seen = partial.digest()
            if seen != entry.sha256:
                raise _wrong(entry, seen)
            partial.finish()
        return _One("copied", read, resumed)

    def _pump(self, piece: Piece, partial: Partial) -> None:
        """Copy one piece, hashing what is written."""
        limit = piece.length + (1 if piece.to_end else 0)
        seen = 0
        with self._reading(piece, direct=partial.direct) as source:
            chunks = stream.chunks(source, piece.source_offset, limit, self._buffers(), self._stop)
            with closing(chunks):
                try:
                    for view, count in chunks:
                        seen += count
                        if seen > piece.length:
                            break
                        partial.write(view, count, piece.target_offset + seen - count)
                        self._progress.add(count)
                except OSError as error:
                    raise self._medium.gone(piece.path, error) from error
        if self._stop.is_set() and seen < piece.length:
            raise EnvironmentNotReadyError("state.stopped", "stopped by another failure")
        self._check_length(piece.path, piece.length, seen)

    @contextmanager
    def _reading(self, piece: Piece, *, direct: bool) -> Iterator[int]:
        def opener(flags: int) -> int:
            return self._medium.open(piece.path, flags, self._folder_of(piece.path))

        try:
            with stream.reading(opener, direct=direct) as source:
                yield source
        except FileNotFoundError as error:
            raise self._missing(piece.path, error) from error

    def _folder_of(self, path: str) -> int:
        """Return a descriptor of a file's folder on the medium; neighbours share one.

        Raises:
            FileNotFoundError: there is no such folder.
            RejectedError: ``medium.type``.
            EnvironmentNotReadyError: ``medium.gone``.
        """
        above = path.rpartition("/")[0]
        known: tuple[str, int] | None = getattr(self._local, "folder", None)
        if known is not None and known[0] == above:
            return known[1]
        try:
            descriptor = self._medium.open_folder(above)
        except FileNotFoundError:
            raise
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENOTDIR):
                raise RejectedError("medium.type", "a link instead of a folder", above) from error
            raise self._medium.gone(above, error) from error
        with self._lock:
            self._folders.append(descriptor)
        self._local.folder = (above, descriptor)
        return descriptor

    def _check_length(self, path: str, wanted: int, seen: int) -> None:
        if seen > wanted:
            raise RejectedError("content.size", f"more than {wanted} bytes", path)
        if seen < wanted:
            if not self._medium.alive(self._verified):
                raise self._medium.gone(path, OSError(errno.EIO, "the file ended early"))
            raise RejectedError("content.size", f"{wanted - seen} of {wanted} bytes missing", path)

    def _missing(self, path: str, error: OSError) -> BundleError:
        if not self._medium.alive(self._verified):
            return self._medium.gone(path, error)
        return RejectedError("content.missing", "listed file is not on the medium", path)

    def _small_buffer(self) -> memoryview:
        """Return this thread's buffer for a whole small file and the block after it."""
        if not hasattr(self._local, "small"):
            self._local.small = stream.Buffers(1, stream.DIRECT_MIN_BYTES + stream.ALIGN)
        return self._local.small.take()[0]  # type: ignore[no-any-return]

    def _buffers(self) -> stream.Buffers:
        """Return this thread's buffers; they live as long as the thread."""
        if not hasattr(self._local, "buffers"):
            self._local.buffers = stream.Buffers()
        found: stream.Buffers = self._local.buffers
        return found


def _stored(store: Store, blobs: Sequence[FileEntry]) -> set[str]:
    """Return the names in those folders of the store that the contents belong to."""
    prefixes = {entry.sha256[:2] for entry in blobs}
    return {name for prefix in prefixes for name in _names(store.root / "blobs" / prefix)}


def _names(folder: Path) -> list[str]:
    try:
        return [path.name for path in folder.iterdir()]
    except FileNotFoundError:
        return []


def missing_bytes(store: Store, bundle: str, blobs: list[FileEntry]) -> int:
    """Return how many bytes of disk an import still has to take."""
    staging = store.staging(bundle)
    here = set(_names(staging)) | _stored(store, blobs)
    missing = 0
    for entry in blobs:
        if entry.sha256 in here:
            continue
        taken = 0
        if f"{entry.sha256}.part" in here:
            taken = (staging / f"{entry.sha256}.part").stat().st_blocks * 512
        missing += max(0, entry.size - taken)
    return missing


def space_needed(store: Store, bundle: str, blobs: list[FileEntry]) -> int:
    """Return how many bytes must be free before an import goes on."""
    return int(missing_bytes(store, bundle, blobs) * SPACE_MARGIN)


def damaged_contents(store: Store, blobs: list[FileEntry], progress: Progress) -> list[FileEntry]:
    """Hash contents at rest in the store; return those that are missing or not what they were."""

    def is_damaged(entry: FileEntry) -> bool:
        damaged = not _is_whole(store.blob(entry.sha256), entry)
        progress.add(entry.size)
        return damaged

    with ThreadPoolExecutor(WORKERS, thread_name_prefix="check") as pool:
        verdicts = list(pool.map(is_damaged, blobs))
    progress.finish()
    return [entry for entry, damaged in zip(blobs, verdicts, strict=True) if damaged]


def _is_whole(path: Path, entry: FileEntry) -> bool:
    """Hash a file of ours; one that the disk or fs-verity does not let us read is not whole."""
    try:
        return path.stat().st_size == entry.size and hash_file(path) == entry.sha256
    except OSError:
        return False


def _wrong(entry: FileEntry, seen: str) -> RejectedError:
    return RejectedError(
        "content.digest", f"SHA-256 is {seen}, the manifest says {entry.sha256}", entry.path
    )


def _weight(error: BaseException) -> int:
    """Order failures: a wrong content must not be hidden by what followed from stopping."""
    if isinstance(error, RejectedError):
        return 0
    return 2 if isinstance(error, BundleError) and error.rule == "state.stopped" else 1
