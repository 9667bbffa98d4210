"""Ansible collections, taken one by one out of the wheel that holds the community's selection."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import yaml

from bundle.builder.archive import extract
from bundle.builder.blobs import BlobStore
from bundle.builder.errors import SpecError
from bundle.builder.lock import LockedFile, PartLock

_ROOT = "ansible_collections"
_SKIP_FOLDERS = ("tests", "changelogs")


def pinned(path: Path) -> dict[str, str]:
    """Return {collection: version} of ``requirements.yml``.

    Raises:
        SpecError: not readable, or a collection without an exact version.
    """
    try:
        rows = yaml.safe_load(path.read_text(encoding="utf-8"))["collections"]
        result = {row["name"]: row["version"] for row in rows}
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        raise SpecError(f"{path}: cannot be read: {error!r}") from error
    for name, version in result.items():
        if name.count(".") != 1 or not str(version)[:1].isdigit():
            raise SpecError(f"{path}: {name} has version {version!r}; write one exact version")
    return result


def selector(wanted: Mapping[str, str]) -> Callable[[str], str | None]:
    """Return the function that keeps the files of the wanted collections.

    Tests, changelogs and hidden files are of no use on a site and are left out.
    """
    prefixes = {f"{_ROOT}/{name.replace('.', '/')}/": name for name in wanted}

    def select(member: str) -> str | None:
        parts = member.split("/")
        if any(part.startswith(".") for part in parts) or len(parts) < 4:
            return None
        prefix = "/".join(parts[:3]) + "/"
        return member if prefix in prefixes and parts[3] not in _SKIP_FOLDERS else None

    return select


def files(lock: PartLock, wanted: Mapping[str, str], store: BlobStore) -> list[LockedFile]:
    """Return the files of the wanted collections.

    Raises:
        SpecError: the wheel holds a collection in another version, or not at all.
    """
    (wheel,) = lock.files
    key = hashlib.sha256(json.dumps([sorted(wanted), _SKIP_FOLDERS]).encode()).hexdigest()[:32]
    entries = extract(wheel, selector(wanted), key, store)
    by_path = {entry.file: entry for entry in entries}
    for name, version in wanted.items():
        manifest = by_path.get(f"{_ROOT}/{name.replace('.', '/')}/MANIFEST.json")
        if manifest is None:
            raise SpecError(f"{wheel.file} has no collection {name}: remove it or change the wheel")
        raw = store.path(manifest.sha256).read_bytes()
        seen = json.loads(raw)["collection_info"]["version"]
        if seen != version:
            raise SpecError(
                f"requirements.yml pins {name} {version}, {wheel.file} holds {seen}: change the pin"
            )
    return entries
