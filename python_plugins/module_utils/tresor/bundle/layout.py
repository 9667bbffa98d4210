"""Where everything lies in the store on the bastion and on the medium."""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass
from pathlib import Path

from .errors import EnvironmentNotReadyError

PUBLIC_FOLDERS = ("blobs", "releases")
PRIVATE_FOLDERS = ("staging", "quarantine", "state")


@dataclass(frozen=True, slots=True)
class Store:
    """The content-addressed store; ``root`` is normally ``/srv/tresor/store``."""

    root: Path

    @property
    def current(self) -> Path:
        """Return the symlink to the active release."""
        return self.root / "current"

    @property
    def state(self) -> Path:
        """Return the folder of journal, locks and high-water marks."""
        return self.root / "state"

    @property
    def trusted(self) -> Path:
        """Return the folder of metadata accepted so far."""
        return self.state / "trusted-tuf"

    @property
    def events(self) -> Path:
        """Return the audit events, JSON lines."""
        return self.state / "events.jsonl"

    @property
    def journal(self) -> Path:
        """Return the journal of the state machine, JSON lines."""
        return self.state / "journal.jsonl"

    @property
    def highwater(self) -> Path:
        """Return the file with the highest serial and the time floor."""
        return self.state / "highwater.json"

    def blob(self, sha256: str) -> Path:
        """Return the place of a content by digest."""
        return self.root / "blobs" / sha256[:2] / sha256

    def staging(self, bundle: str) -> Path:
        """Return the folder in which an import gathers its contents."""
        return self.root / "staging" / bundle

    def pending(self, bundle: str) -> Path:
        """Return the folder of a verified bundle that waits for approval."""
        return self.state / "pending" / bundle

    def news(self, bundle: str) -> Path:
        """Return the folder of a bundle of advisories that was let in."""
        return self.state / "advisories" / bundle

    def approvals(self, bundle: str) -> Path:
        """Return the folder of the signatures that approve a bundle."""
        return self.state / "approvals" / bundle

    def release(self, release_id: str) -> Path:
        """Return the folder of a release."""
        return self.root / "releases" / release_id

    def create(self) -> None:
        """Make the folders; what is served is 0755, the rest 0700."""
        self.root.mkdir(mode=0o755, parents=True, exist_ok=True)
        for name in PUBLIC_FOLDERS:
            (self.root / name).mkdir(mode=0o755, exist_ok=True)
        for name in PRIVATE_FOLDERS:
            (self.root / name).mkdir(mode=0o700, exist_ok=True)


def write_atomic(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Replace a file so that a power cut leaves the old or the new content, never a part."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fchmod(stream.fileno(), mode)
        os.fsync(stream.fileno())
    temporary.replace(path)
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Make renames and new names in a folder durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file_system(path: Path) -> None:
    """Write a whole file system to disk: one call for many small files instead of one each."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.syncfs(descriptor) != 0:
            code = ctypes.get_errno()
            raise EnvironmentNotReadyError(
                "environment.sync", f"cannot write to disk: {os.strerror(code)}", str(path)
            )
    finally:
        os.close(descriptor)
