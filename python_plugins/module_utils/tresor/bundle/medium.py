"""The medium: untrusted, perhaps hostile, perhaps pulled out while it is read.

Nothing is believed because a first look said so: every payload byte is read once, by the copier,
and hashed while it is written.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from .canonical import load_strict, sha256_hex
from .errors import BundleError, EnvironmentNotReadyError, RejectedError
from .manifest import MAX_MANIFEST_BYTES, BundleManifest, FileEntry
from .trust import MAX_METADATA_BYTES, TARGET_NAME, VerifiedMetadata

VOLUME_FILE = "volume.json"
BOOTSTRAP = "bootstrap"
ROOT_FINGERPRINT = "root.sha256"
# What travels beside the listed contents. Where the signatures list the folder ``bootstrap``, its
# files are checked against them; the two hints below have one permitted form.
UNSIGNED_FILES = frozenset(
    {
        VOLUME_FILE,
        f"{BOOTSTRAP}/importer.pyz",
        f"{BOOTSTRAP}/importer.pyz.sig",
        f"{BOOTSTRAP}/importer.pyz.sha256",
        f"{BOOTSTRAP}/{ROOT_FINGERPRINT}",
    }
)
MAX_BOOTSTRAP_BYTES = 64 * 1024 * 1024
MAX_VOLUMES = 1_000
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_GONE = {errno.EIO, errno.ENODEV, errno.ENXIO, errno.ESTALE, errno.ENOTCONN, errno.EREMOTEIO}


@dataclass(frozen=True, slots=True)
class Medium:
    """A mounted ``bundle/`` folder."""

    root: Path

    def metadata(self, name: str) -> bytes | None:
        """Return a file of ``tuf/``, None if there is none."""
        return self.read(f"tuf/{name}", MAX_METADATA_BYTES)

    def manifest(self, verified: VerifiedMetadata) -> bytes:
        """Return the raw bytes of ``bundle.json`` that the signatures vouch for.

        Raises:
            RejectedError: rule ``signature.target``: absent, or other bytes; ``manifest.size``.
        """
        path = f"targets/{verified.bundle_sha256}.{TARGET_NAME}"
        if verified.bundle_size > MAX_MANIFEST_BYTES:
            # Before the first byte is read: the file may be as long as the signed length says.
            raise RejectedError(
                "manifest.size",
                f"{verified.bundle_size} bytes were signed, at most {MAX_MANIFEST_BYTES} are read",
                path,
            )
        raw = self.read(path, verified.bundle_size)
        if raw is None:
            raise RejectedError("signature.target", "the signed manifest is missing", path)
        if len(raw) != verified.bundle_size or sha256_hex(raw) != verified.bundle_sha256:
            raise RejectedError("signature.target", "manifest is not the signed one", path)
        return raw

    def read(self, path: str, limit: int) -> bytes | None:
        """Read a small regular file; None if it does not exist.

        Raises:
            RejectedError: rules ``medium.type``, ``medium.size``.
            EnvironmentNotReadyError: rule ``medium.gone``.
        """
        try:
            descriptor = self.open(path)
        except FileNotFoundError:
            return None
        with os.fdopen(descriptor, "rb") as stream:
            try:
                raw = stream.read(limit + 1)
            except OSError as error:
                raise self.gone(path, error) from error
        if len(raw) > limit:
            raise RejectedError("medium.size", f"more than {limit} bytes", path)
        return raw

    def open(self, path: str, flags: int = 0, folder: int = -1) -> int:
        """Open a regular file below the root; no part of the path may be a link.

        Args:
            path: relative to the root.
            flags: added to those for reading, for example ``os.O_DIRECT``.
            folder: descriptor of the file's folder from :meth:`open_folder`, if it is at hand.

        Returns:
            A descriptor.

        Raises:
            FileNotFoundError: there is none.
            RejectedError: rule ``medium.type``: a link, folder or device.
            EnvironmentNotReadyError: rule ``medium.gone``.
            OSError: with EINVAL, if the file system does not know ``flags``.
        """
        above, _, name = path.rpartition("/")
        parent = descriptor = -1
        try:
            parent = self.open_folder(above) if folder < 0 else folder
            descriptor = os.open(
                name,
                os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | flags,
                dir_fd=parent,
            )
        except FileNotFoundError:
            raise
        except OSError as error:
            if error.errno == errno.EINVAL and flags:
                raise
            if error.errno in (errno.ELOOP, errno.ENOTDIR):
                raise RejectedError(
                    "medium.type", "a link, or a file instead of a folder", path
                ) from error
            raise self.gone(path, error) from error
        finally:
            if parent >= 0 and folder < 0:
                os.close(parent)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise RejectedError("medium.type", "not a regular file", path)
        return descriptor

    def gone(self, path: str, error: OSError) -> BundleError:
        """Return the error for a failed read: the medium was pulled, is broken, or is shut."""
        hint = "insert and mount the medium again, then repeat the command: it continues"
        if error.errno not in _GONE and error.errno != errno.ENOENT:
            hint = "check the permissions and the mount, then repeat the command"
        return EnvironmentNotReadyError(
            "medium.gone", f"cannot read: {error.strerror or error}; {hint}", path
        )

    def alive(self, verified: VerifiedMetadata) -> bool:
        """Tell whether the medium still shows the signed metadata that was verified."""
        try:
            return self.metadata("timestamp.json") == verified.state.timestamp
        except BundleError:
            return False

    def check_closed_world(
        self,
        manifest: BundleManifest,
        verified: VerifiedMetadata,
        here: Callable[[FileEntry], bool],
    ) -> Volume:
        """Compare what lies on the medium with what the manifest lists, by name, kind and size.

        Args:
            manifest: what the signatures vouch for.
            verified: the signatures.
            here: tells whether a content is in the store or staged (it is hashed there later).

        Returns:
            What this volume holds.

        Raises:
            RejectedError: ``medium.extra``, ``medium.type``, ``medium.volume``,
                ``medium.bootstrap``, ``content.missing``, ``content.size``.
            EnvironmentNotReadyError: ``medium.gone``.
        """
        expected = expected_files(manifest, verified)
        found: set[str] = set()
        for path, size in self._walk(expected):
            if path in UNSIGNED_FILES:
                self._check_beside(path, size, verified)
                continue
            if expected[path] is not None and size != expected[path]:
                raise RejectedError(
                    "content.size", f"{size} bytes, the manifest says {expected[path]}", path
                )
            found.add(path)
        number, of = self._volume()
        volume = Volume(number, of, frozenset(found))
        for entry in manifest.blobs().values():
            if entry.shards and whole(entry) in found and not found.isdisjoint(shards(entry)):
                raise RejectedError(
                    "medium.extra", "the content is here whole and in shards", whole(entry)
                )
            missing = volume.missing(entry)
            if missing and of == 1 and not here(entry):
                if not self.alive(verified):
                    raise self.gone(missing, OSError(errno.ENOENT, "medium is not there any more"))
                raise RejectedError(
                    "content.missing", "listed content is not on the medium", missing
                )
        return volume

    def _check_beside(self, path: str, size: int, verified: VerifiedMetadata) -> None:
        """Check a file of the first contact against the signatures, if they list it."""
        if path == VOLUME_FILE or verified.bootstrap is None:
            return
        name = path.removeprefix(f"{BOOTSTRAP}/")
        raw = self.read(path, MAX_BOOTSTRAP_BYTES) or b""
        if name == ROOT_FINGERPRINT and name not in verified.bootstrap:
            good = raw.strip() == verified.state.roots[1].encode() and size <= len(raw.strip()) + 1
        else:
            good = verified.bootstrap.get(name) == (sha256_hex(raw), len(raw))
        if not good:
            raise RejectedError(
                "medium.bootstrap",
                "is not what the bundle was signed with. Do not run it; an importer that was "
                "started from this medium before must not be trusted either",
                path,
            )

    def _volume(self) -> tuple[int, int]:
        """Return number and count of volumes; a hint that only decides what is asked for next."""
        raw = self.read(VOLUME_FILE, 4096)
        if raw is None:
            return 1, 1
        data = load_strict(raw, limit=4096, rule="medium.volume", path=VOLUME_FILE)
        if isinstance(data, dict) and set(data) == {"volume", "volumes"}:
            number, of = data["volume"], data["volumes"]
            if type(number) is int and type(of) is int and 1 <= number <= of <= MAX_VOLUMES:
                return number, of
        raise RejectedError("medium.volume", "must say volume and volumes", VOLUME_FILE)

    def _walk(self, expected: Mapping[str, int | None]) -> Iterator[tuple[str, int]]:
        """Yield every file with its size; the first unlisted name ends it, however many follow."""
        folders_allowed = {
            parent for path in (*expected, *UNSIGNED_FILES) for parent in _parents(path)
        }
        most = len(expected) + len(UNSIGNED_FILES) + len(folders_allowed)
        count = 0
        folders = [""]
        while folders:
            folder = folders.pop()
            try:
                descriptor = self.open_folder(folder)
                try:
                    with os.scandir(descriptor) as entries:
                        for entry in entries:
                            path = f"{folder}/{entry.name}" if folder else entry.name
                            count += 1
                            if count > most:
                                raise RejectedError("medium.extra", "names come twice", path)
                            info = entry.stat(follow_symlinks=False)
                            if stat.S_ISDIR(info.st_mode):
                                if path not in folders_allowed:
                                    raise RejectedError("medium.extra", "unlisted folder", path)
                                folders.append(path)
                            elif not stat.S_ISREG(info.st_mode):
                                raise RejectedError(
                                    "medium.type", "neither a file nor a folder (a symlink?)", path
                                )
                            elif path not in expected and path not in UNSIGNED_FILES:
                                raise RejectedError(
                                    "medium.extra", "file is not listed in the manifest", path
                                )
                            else:
                                yield path, info.st_size
                finally:
                    os.close(descriptor)
            except OSError as error:
                raise self.gone(folder or ".", error) from error

    def open_folder(self, path: str) -> int:
        """Open a folder below the root, step by step and through no link; return a descriptor.

        Raises:
            OSError: there is none, or a part of the path is no folder.
        """
        descriptor = os.open(self.root, _FOLDER & ~os.O_NOFOLLOW)
        for name in path.split("/") if path else []:
            try:
                child = os.open(name, _FOLDER, dir_fd=descriptor)
            finally:
                os.close(descriptor)
            descriptor = child
        return descriptor


@dataclass(frozen=True, slots=True)
class Volume:
    """One of the media that carry a bundle: its number, how many there are, what lies on it."""

    number: int
    of: int
    files: frozenset[str]

    def pieces(self, entry: FileEntry) -> dict[int, str]:
        """Return the pieces of a content on this volume by number; 0 is also the whole file."""
        if whole(entry) in self.files:
            return {0: whole(entry)}
        return {number: path for number, path in enumerate(shards(entry)) if path in self.files}

    def missing(self, entry: FileEntry) -> str:
        """Return a file that the content lacks on this volume, empty if it is complete."""
        if whole(entry) in self.files:
            return ""
        absent = [path for path in shards(entry) if path not in self.files]
        return absent[0] if absent else "" if entry.shards else whole(entry)


def expected_files(manifest: BundleManifest, verified: VerifiedMetadata) -> dict[str, int | None]:
    """Return every path that belongs on the medium, with its size in bytes if known."""
    expected: dict[str, int | None] = {f"tuf/{name}": None for name in verified.files}
    expected[f"targets/{manifest.digest}.{TARGET_NAME}"] = verified.bundle_size
    for entry in manifest.blobs().values():
        expected[whole(entry)] = entry.size
        expected.update(shards(entry))
    return expected


def whole(entry: FileEntry) -> str:
    """Return where a content lies on the medium in one piece."""
    return f"blobs/{entry.sha256[:2]}/{entry.sha256}"


def shards(entry: FileEntry) -> dict[str, int]:
    """Return where its shards lie, in order, with their sizes; empty if it has none."""
    sizes = {}
    left = entry.size
    for number in range(len(entry.shards)):
        sizes[f"{whole(entry)}.s{number:04d}"] = min(left, entry.shard_size)
        left -= entry.shard_size
    return sizes


def _parents(path: str) -> list[str]:
    words = path.split("/")[:-1]
    return ["/".join(words[: count + 1]) for count in range(len(words))]
