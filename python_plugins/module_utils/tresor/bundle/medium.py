"""The medium: untrusted, perhaps hostile, perhaps pulled out while it is read.

Nothing is believed because a first look said so: every payload byte is read once, by the copier,
and hashed while it is written.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .canonical import sha256_hex
from .errors import BundleError, EnvironmentNotReadyError, RejectedError
from .manifest import BundleManifest, FileEntry
from .trust import MAX_METADATA_BYTES, TARGET_NAME, VerifiedMetadata

# Not covered by the signatures and never imported: the first contact's own files and a hint.
UNSIGNED_FILES = frozenset(
    {
        "volume.json",
        "bootstrap/importer.pyz",
        "bootstrap/importer.pyz.sig",
        "bootstrap/importer.pyz.sha256",
        "bootstrap/root.sha256",
    }
)
MAX_LISTING = 2_000_000
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
            RejectedError: rule ``signature.target``: absent, or other bytes.
        """
        path = f"targets/{verified.bundle_sha256}.{TARGET_NAME}"
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

    def open(self, path: str) -> int:
        """Open a regular file below the root without following links; return a descriptor.

        Raises:
            FileNotFoundError: there is none.
            RejectedError: rule ``medium.type``: a link, folder or device.
            EnvironmentNotReadyError: rule ``medium.gone``.
        """
        try:
            descriptor = os.open(
                self.root / path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            )
        except FileNotFoundError:
            raise
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise RejectedError("medium.type", "symlink instead of a file", path) from error
            if error.errno == errno.ENOTDIR:
                raise RejectedError("medium.type", "file instead of a folder", path) from error
            raise self.gone(path, error) from error
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

    def check_closed_world(self, manifest: BundleManifest, verified: VerifiedMetadata) -> None:
        """Compare what lies on the medium with what the manifest lists, by name, kind and size.

        Contents of a base bundle that the store already holds may be absent; the copier decides.

        Raises:
            RejectedError: ``medium.extra``, ``medium.type``, ``content.missing``, ``content.size``.
            EnvironmentNotReadyError: ``medium.gone``.
        """
        expected = expected_files(manifest, verified)
        found: set[str] = set()
        for path, size in self._walk():
            if path in UNSIGNED_FILES:
                continue
            if path not in expected:
                raise RejectedError("medium.extra", "file is not listed in the manifest", path)
            if expected[path] is not None and size != expected[path]:
                raise RejectedError(
                    "content.size", f"{size} bytes, the manifest says {expected[path]}", path
                )
            found.add(path)
        if manifest.base_digest is not None:
            return
        missing = sorted(set(expected) - found)
        if missing:
            if not self.alive(verified):
                raise self.gone(missing[0], OSError(errno.ENOENT, "medium is not there any more"))
            raise RejectedError(
                "content.missing",
                f"{len(missing)} listed file(s) are not on the medium",
                missing[0],
            )

    def _walk(self) -> Iterator[tuple[str, int]]:
        folders = [""]
        count = 0
        while folders:
            folder = folders.pop()
            try:
                with os.scandir(self.root / folder) as entries:
                    listing = sorted(entries, key=lambda entry: entry.name)
                for entry in listing:
                    path = f"{folder}/{entry.name}" if folder else entry.name
                    count += 1
                    if count > MAX_LISTING:
                        raise RejectedError("medium.extra", f"more than {MAX_LISTING} names", path)
                    info = entry.stat(follow_symlinks=False)
                    if stat.S_ISDIR(info.st_mode):
                        folders.append(path)
                    elif stat.S_ISREG(info.st_mode):
                        yield path, info.st_size
                    else:
                        raise RejectedError(
                            "medium.type", "neither a file nor a folder (a symlink?)", path
                        )
            except OSError as error:
                raise self.gone(folder or ".", error) from error


def expected_files(manifest: BundleManifest, verified: VerifiedMetadata) -> dict[str, int | None]:
    """Return every path that belongs on the medium, with its size in bytes if known."""
    expected: dict[str, int | None] = {f"tuf/{name}": None for name in verified.files}
    expected[f"targets/{manifest.digest}.{TARGET_NAME}"] = verified.bundle_size
    for entry in manifest.blobs().values():
        expected.update(pieces(entry))
    return expected


def pieces(entry: FileEntry) -> dict[str, int]:
    """Return the files that make up one content on the medium, in order, with their sizes."""
    base = f"blobs/{entry.sha256[:2]}/{entry.sha256}"
    if not entry.shards:
        return {base: entry.size}
    sizes = {}
    left = entry.size
    for number in range(len(entry.shards)):
        sizes[f"{base}.s{number:04d}"] = min(left, entry.shard_size)
        left -= entry.shard_size
    return sizes
