"""Lock files: what each part resolved to. One JSON file per part, one line per file, no URL.

``bundle.json`` among them is the header: id, serial and times of the bundle.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from bundle.builder.blobs import Blob
from bundle.builder.errors import LockError
from bundle.builder.spec import validate

HEADER = "bundle"
_TIME = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True, slots=True)
class LockedFile:
    """One fetched file: package name and version, file name, size in bytes, SHA-256.

    ``extra`` holds what only one kind of package needs (architecture, places in a tree).
    """

    name: str
    version: str
    file: str
    size: int
    sha256: str
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def blob(self) -> Blob:
        """Return the content this entry stands for."""
        return Blob(self.sha256, self.size)

    def to_json(self) -> dict[str, Any]:
        """Return the entry as it stands in the lock."""
        return {
            "name": self.name,
            "version": self.version,
            "file": self.file,
            "size": self.size,
            "sha256": self.sha256,
            **self.extra,
        }


@dataclass(frozen=True, slots=True)
class PartLock:
    """The resolved part. ``inputs`` is the digest of what was asked for; ``details`` by type."""

    part: str
    type: str
    inputs: str
    files: tuple[LockedFile, ...]
    details: Mapping[str, Any] = field(default_factory=dict)

    def file(self, name: str) -> LockedFile:
        """Return the entry of package ``name``.

        Raises:
            LockError: there is none.
        """
        for entry in self.files:
            if entry.name == name:
                return entry
        raise LockError(f"lock of {self.part} has no package {name!r}")

    def dump(self) -> str:
        """Return the text of the lock file, one line per fetched file."""
        head = {
            "schema": "lock/v1",
            "part": self.part,
            "type": self.type,
            "inputs": self.inputs,
            "details": self.details,
        }
        lines = [f"  {json.dumps(key)}: {_pretty(value)}," for key, value in head.items() if value]
        rows = sorted(self.files, key=lambda entry: (entry.name, entry.version, entry.file))
        body = ",\n".join("    " + json.dumps(row.to_json()) for row in rows)
        return "{\n" + "\n".join(lines) + '\n  "files": [\n' + body + "\n  ]\n}\n"

    def digest(self) -> str:
        """Return ``sha256:<hex>`` of the lock file's bytes."""
        return "sha256:" + hashlib.sha256(self.dump().encode()).hexdigest()


def _pretty(value: object) -> str:
    text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False)
    return text.replace("\n", "\n  ")


@dataclass(frozen=True, slots=True)
class HeaderLock:
    """Identity and times of a bundle; times in UTC."""

    id: str
    serial: int
    created: datetime
    expires: datetime

    def dump(self) -> str:
        """Return the text of the header's lock file."""
        value = {
            "schema": "lock/v1",
            "id": self.id,
            "serial": self.serial,
            "created": self.created.strftime(_TIME),
            "expires": self.expires.strftime(_TIME),
        }
        return json.dumps(value, indent=2) + "\n"

    def with_serial(self, serial: int) -> HeaderLock:
        """Return the header under another serial number."""
        return replace(self, serial=serial, id=f"{self.created:%Y.%m}-{serial}")


def next_header(old: HeaderLock | None, now: datetime, valid_days: int) -> HeaderLock:
    """Return the header that follows ``old`` (or the first one)."""
    created = now.astimezone(UTC).replace(microsecond=0)
    serial = old.serial + 1 if old else 1
    return HeaderLock(
        id=f"{created:%Y.%m}-{serial}",
        serial=serial,
        created=created,
        expires=created + timedelta(days=valid_days),
    )


class LockDir:
    """The folder of lock files."""

    def __init__(self, folder: Path, schema: Path) -> None:
        self.folder = folder
        self.schema = schema

    def path(self, part: str) -> Path:
        """Return the lock file of ``part``."""
        return self.folder / f"{part}.json"

    def read(self, part: str) -> PartLock | None:
        """Return the lock of ``part``, or None when there is none yet.

        Raises:
            LockError: damaged, or not what the schema says.
        """
        data = self._load(part)
        if data is None:
            return None
        if data.get("part") != part:
            raise LockError(f"{self.path(part)}: key part is {data.get('part')!r}, not {part!r}")
        return parse_part(data)

    def header(self) -> HeaderLock | None:
        """Return the header, or None when there is none yet."""
        data = self._load(HEADER)
        if data is None:
            return None
        return HeaderLock(
            id=data["id"],
            serial=data["serial"],
            created=_time(data["created"]),
            expires=_time(data["expires"]),
        )

    def write(self, part: str, text: str) -> bool:
        """Write a lock file; return whether it changed.

        Raises:
            LockError: the text names a place instead of content.
        """
        if "://" in text:
            raise LockError(f"lock of {part} would contain a URL; this is a bug of the resolver")
        path = self.path(part)
        if path.exists() and path.read_text(encoding="utf-8") == text:
            return False
        self.folder.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".json.new")
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
        return True

    def names(self) -> list[str]:
        """Return the names of all parts that have a lock."""
        return sorted(path.stem for path in self.folder.glob("*.json") if path.stem != HEADER)

    def remove(self, part: str) -> None:
        """Delete the lock of a part that left the spec."""
        self.path(part).unlink(missing_ok=True)

    def _load(self, part: str) -> dict[str, Any] | None:
        path = self.path(part)
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        if "://" in text:
            raise LockError(f"{path}: contains a URL; a lock names content, never a place")
        try:
            data: dict[str, Any] = json.loads(text)
        except ValueError as error:
            raise LockError(f"{path}: not JSON: {error}") from error
        wrong = validate(data, self.schema)
        if wrong:
            raise LockError(f"{path}: {wrong}")
        return data


def parse_part(data: Mapping[str, Any]) -> PartLock:
    """Turn a checked lock file into values."""
    known = {"name", "version", "file", "size", "sha256"}
    return PartLock(
        part=data["part"],
        type=data["type"],
        inputs=data["inputs"],
        details=data.get("details", {}),
        files=tuple(
            LockedFile(
                **{key: entry[key] for key in known},
                extra={key: value for key, value in entry.items() if key not in known},
            )
            for entry in data["files"]
        ),
    )


def _time(text: str) -> datetime:
    return datetime.strptime(text, _TIME).replace(tzinfo=UTC)
