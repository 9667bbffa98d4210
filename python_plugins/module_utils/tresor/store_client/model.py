"""Models on hosts: ``<prefix>/<digest>/`` exists completely and verified, or not at all."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..bundle import verity
from ..bundle.disk import check_space, remove_tree
from ..bundle.errors import RejectedError
from ..bundle.layout import sync_file_system
from ..bundle.manifest import FileEntry, model_digest
from ..bundle.paths import check_path, check_unique
from .client import Connection, StoreClient

SPACE_FACTOR = 1.02
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class WantedModel:
    """A model that a host shall hold."""

    name: str
    digest: str
    part: str
    files: tuple[FileEntry, ...]
    prefix: Path

    @property
    def folder(self) -> Path:
        """Return where the model lies."""
        return folder_of(self.prefix, self.digest)


def folder_of(prefix: Path, digest: str) -> Path:
    """Return where a model with a digest lies.

    Raises:
        RejectedError: rule ``model.digest``: not ``sha256:<64 hex digits>``.
    """
    match = _DIGEST.fullmatch(digest)
    if not match:
        raise RejectedError("model.digest", f"{digest!r} is not of the form sha256:<64 hex>")
    return prefix / match[1]


def wanted_model(
    name: str, digest: str, part: str, files: Iterable[Mapping[str, object]], prefix: Path
) -> WantedModel:
    """Check the description of a model: its digest must be that of its list of files.

    Raises:
        RejectedError: rules ``model.digest``, ``model.files``, ``model.path``.
    """
    folder_of(prefix, digest)
    entries = []
    for item in files:
        try:
            entry = FileEntry(str(item["path"]), int(str(item["size"])), str(item["sha256"]))
        except (KeyError, ValueError) as error:
            raise RejectedError(
                "model.files", f"needs path, size, sha256: {error!r}", name
            ) from error
        check_path(entry.path, "model.path")
        if not _SHA256.fullmatch(entry.sha256) or entry.size < 0:
            raise RejectedError("model.files", "size or sha256 is malformed", entry.path)
        entries.append(entry)
    check_unique([entry.path for entry in entries], "model.path")
    seen = model_digest(tuple(entries))
    if seen != digest:
        raise RejectedError(
            "model.digest", f"the list of files has {seen}, wanted is {digest}", name
        )
    return WantedModel(name, digest, part, tuple(entries), prefix)


def is_present(model: WantedModel) -> bool:
    """Tell whether the folder is complete, by names and sizes (contents were verified when
    they were written, and only root can write there)."""
    found = {}
    for folder, _, names in os.walk(model.folder):
        for name in names:
            path = Path(folder) / name
            found[str(path.relative_to(model.folder))] = path.lstat().st_size
    return bool(found) and found == {entry.path: entry.size for entry in model.files}


def pull(model: WantedModel, connection: Connection) -> int:
    """Bring the model here and return the bytes written.

    Raises:
        EnvironmentNotReadyError, RejectedError: nothing is left behind.
    """
    model.prefix.mkdir(mode=0o755, parents=True, exist_ok=True)
    for leftover in model.prefix.glob(".pull-*"):
        remove_tree(leftover)
    total = sum(entry.size for entry in model.files)
    check_space(model.prefix, int(total * SPACE_FACTOR))
    with tempfile.TemporaryDirectory(prefix=".pull-", dir=model.prefix) as temporary:
        staged = Path(temporary) / "model"
        staged.mkdir(mode=0o755)
        with StoreClient(connection) as client:
            for entry in model.files:
                _file(client, model.part, entry, staged / entry.path)
        for folder, _, _ in os.walk(staged):
            Path(folder).chmod(0o755)
        sync_file_system(staged)
        # Where the file system has it: from here on the kernel refuses changed weights by itself.
        verity.seal_all(staged / entry.path for entry in model.files)
        if model.folder.exists():
            remove_tree(model.folder)  # incomplete: is_present said no
        staged.rename(model.folder)
    return total


def _file(client: StoreClient, part: str, entry: FileEntry, target: Path) -> None:
    target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    digest = client.download(f"{part}/{entry.path}", target, limit=entry.size)
    size = target.stat().st_size
    if digest != entry.sha256 or size != entry.size:
        raise RejectedError(
            "store.digest",
            f"{size} bytes with SHA-256 {digest}, wanted {entry.size} with {entry.sha256}",
            f"{part}/{entry.path}",
        )
    target.chmod(0o444)
