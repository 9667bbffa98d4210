"""A fixture repository whose spec needs no network."""

from __future__ import annotations

import hashlib
import shutil
from datetime import UTC, datetime
from pathlib import Path

import yaml

from bundle.builder.blobs import BlobStore
from bundle.builder.build import Options
from bundle.builder.context import Context, default_context
from bundle.builder.lock import HeaderLock, LockDir, LockedFile, PartLock
from bundle.builder.resolver import Resolver
from bundle.builder.spec import load_spec
from bundle.tests import makers

NOW = datetime(2026, 11, 24, tzinfo=UTC)
HEADER = HeaderLock(
    id="2026.11-7",
    serial=7,
    created=datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC),
    expires=datetime(2027, 5, 22, 12, 0, 0, tzinfo=UTC),
)


def make_wheel(path: Path, name: str, version: str, members: dict[str, bytes]) -> Path:
    """Write a wheel with the given members."""
    file, raw = makers.wheel(name, version, members)
    target = path / file
    target.write_bytes(raw)
    return target


def locked(path: Path, name: str, version: str) -> LockedFile:
    """Return the lock entry of a file."""
    raw = path.read_bytes()
    return LockedFile(name, version, path.name, len(raw), hashlib.sha256(raw).hexdigest())


class Site:
    """A fixture repository: spec, locks, cache and working tree below one folder."""

    def __init__(self, base: Path) -> None:
        self.root = base / "repository"
        self.out = base / "out"
        self.wheels = base / "wheels"
        self.wheels.mkdir()
        schema = self.root / "python_plugins/module_utils/tresor/schema"
        schema.parent.mkdir(parents=True)
        shutil.copytree(default_context().schema_dir, schema)
        self.context = Context(root=self.root, cache=base / "cache", jobs=1)
        self.store = BlobStore(self.context.cache)
        self.locks = LockDir(self.root / "bundle/lock", schema / "lock.schema.json")
        self.spec_dir = self.root / "bundle/spec"
        (self.spec_dir / "lab").mkdir(parents=True)
        (self.root / "playbooks").mkdir()
        (self.root / "playbooks/site.yml").write_text("---\n- hosts: all\n")
        self.write_spec("bundle.yml", _SPEC_BUNDLE)

    def write_spec(self, name: str, content: object) -> None:
        """Write a file of the spec."""
        (self.spec_dir / name).write_text(yaml.safe_dump(content))

    def resolver(self) -> Resolver:
        """Return a resolver of the present spec."""
        schema = self.context.schema_dir / "spec.schema.json"
        return Resolver(self.context, load_spec(self.spec_dir, schema), self.store)

    def lock(self, part: str, files: list[Path], details: dict[str, object] | None = None) -> None:
        """Write a lock for ``part`` over files that are put into the cache."""
        resolver = self.resolver()
        spec = resolver.spec.part(part)
        entries = []
        for path in files:
            name, version = path.name.split("-")[:2]
            entries.append(locked(path, name.replace("_", "-"), version))
            self.store.add_bytes(path.read_bytes())
        lock = PartLock(part, spec.type, resolver.inputs(spec), tuple(entries), details or {})
        self.locks.write(part, lock.dump())
        self.locks.write("bundle", HEADER.dump())

    def options(self, **changes: object) -> Options:
        """Return build options for this site."""
        values: dict[str, object] = {
            "out": self.out,
            "keys": None,
            "scopes": ("product", "lab"),
            "relock_missing": False,
            "serial": None,
            "verify": False,
        }
        return Options(**{**values, **changes})  # type: ignore[arg-type]


_SPEC_BUNDLE = {
    "bundle": {
        "valid_days": 180,
        "audience": {
            "site": "*",
            "arch": ["amd64"],
            "os": ["debian-12"],
            "glibc": ">=2.36",
            "python": ["3.11"],
        },
    }
}
