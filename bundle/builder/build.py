"""One build from spec, locks and working tree; with or without repairing outdated locks."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from bundle.builder import debs, evidence, gates
from bundle.builder.assemble import Built, assemble, manifest
from bundle.builder.content import Maker, PartContent
from bundle.builder.errors import GoneError, LockError, SpecError
from bundle.builder.inventory import Inventory
from bundle.builder.lock import HEADER, HeaderLock, LockDir, PartLock, next_header
from bundle.builder.progress import Progress, say
from bundle.builder.resolver import UNLOCKED_TYPES, Resolver, order
from bundle.builder.spec import PartSpec
from tresor.policy.rules import SiteRules

IMPORTER = "importer"  # name of the build environment whose wheels travel in the importer


@dataclass(frozen=True, slots=True)
class Options:
    """How to build.

    Attributes:
        out: parent of the folder ``bundle``.
        keys: signing keys, or None.
        scopes: parts of which scopes are carried.
        relock_missing: resolve a debs part afresh when the mirror has moved on.
        serial: overrides the lock's serial number.
        outside: evidence from outside the spec.
        inventory: what the site has; the bundle is for that site alone then.
        verify: read every content again.
    """

    out: Path
    keys: Path | None
    scopes: tuple[str, ...]
    relock_missing: bool
    serial: int | None
    verify: bool
    outside: evidence.Outside = field(default_factory=evidence.Outside)
    inventory: Inventory | None = None


def load_locks(
    resolver: Resolver, folder: LockDir, parts: Sequence[PartSpec]
) -> tuple[HeaderLock, dict[str, PartLock]]:
    """Return the header and the locks of ``parts``, in step with the spec.

    Raises:
        LockError: one is missing or belongs to an older spec.
    """
    header = folder.header()
    if header is None:
        raise LockError(f"{folder.path(HEADER)} is missing: run 'python -m bundle.builder lock'")
    locks: dict[str, PartLock] = {}
    for part in parts:
        if part.type in UNLOCKED_TYPES:
            continue
        lock = folder.read(part.name)
        if lock is None or lock.inputs != resolver.inputs(part):
            state = "has no lock" if lock is None else "changed in the spec since it was locked"
            raise LockError(
                f"part {part.name} {state}: run 'python -m bundle.builder lock --part "
                f"{part.name}' and review the diff of {folder.path(part.name)}"
            )
        locks[part.name] = lock
    return header, locks


def needed_parts(resolver: Resolver, scopes: tuple[str, ...]) -> list[PartSpec]:
    """Return the parts to fetch: those carried, and what building them takes."""
    carried = [part for part in resolver.spec.parts if part.carried and part.scope in scopes]
    tools = {part.want["convert"]["environment"] for part in carried if "convert" in part.want}
    return order([*carried, *(resolver.spec.part(name) for name in sorted(tools | {IMPORTER}))])


def fetch_all(
    resolver: Resolver,
    locks: dict[str, PartLock],
    parts: Sequence[PartSpec],
    *,
    relock_missing: bool = False,
) -> list[str]:
    """Bring everything into the cache; return the parts whose lock was replaced in ``locks``.

    Raises:
        GoneError: a debs part is no longer offered, and ``relock_missing`` is off.
    """
    renewed: list[str] = []
    for part in parts:
        lock = locks.get(part.name)
        if lock is None:
            continue
        try:
            resolver.fetch(part, lock)
        except GoneError as error:
            if not relock_missing:
                raise
            locks[part.name] = _relock(resolver, part, lock, error)
            resolver.fetch(part, locks[part.name])
            renewed.append(part.name)
    return renewed


def _relock(resolver: Resolver, part: PartSpec, lock: PartLock, error: GoneError) -> PartLock:
    if all(resolver.store.has(entry.blob) for entry in lock.files):
        say(
            f"{part.name}: all packages are as locked; the mirror's release files are newer and "
            "travel instead of the locked ones (this build only)"
        )
        mirror = debs.open_mirror(part.want, resolver.context.cache)
        return debs.renew_evidence(lock, mirror, resolver.store)
    say(f"RELOCKED for this build only: {error}")
    return resolver.resolve(part, {})


def effective_header(
    header: HeaderLock, locks: Mapping[str, PartLock], renewed: list[str], serial: int | None
) -> HeaderLock:
    """Return the header of this build; a build with replaced locks says so in its id."""
    if serial is not None:
        header = header.with_serial(serial)
    if renewed:
        text = "".join(f"{name} {locks[name].digest()}\n" for name in sorted(renewed))
        header = replace(
            header, id=f"{header.id}+relock.{hashlib.sha256(text.encode()).hexdigest()[:8]}"
        )
    return header


def build(resolver: Resolver, folder: LockDir, options: Options, now: datetime) -> Built:
    """Build a bundle.

    Args:
        resolver: the spec and the clients.
        folder: lock files.
        options: how to build.
        now: the present time; it only decides whether the locks are too old to be of use.

    Raises:
        BuilderError: the message says what and what to do; the former bundle stays in place.
    """
    needed = needed_parts(resolver, options.scopes)
    header, locks = load_locks(resolver, folder, needed)
    renewed = fetch_all(resolver, locks, needed, relock_missing=options.relock_missing)
    header = effective_header(header, locks, renewed, options.serial)
    policy = resolver.spec.policy(options.scopes)
    if header.expires <= now:
        header = _expired(header, resolver.spec.valid_days, options, now)
    elif options.relock_missing and _waivers_ended(policy, header, now):
        say("RELOCKED for this build only: a waiver of the spec ended, the bundle gets a new date")
        header = _fresh(header, resolver.spec.valid_days, now)
    carried = [
        part for part in resolver.spec.parts if part.carried and part.scope in options.scopes
    ]
    if not carried:
        raise SpecError(f"the spec has no part of scope {', '.join(options.scopes)}")
    maker = Maker(resolver, header, locks)
    contents: list[PartContent] = []
    with Progress("prepare parts", len(carried)) as progress:
        for part in carried:
            contents.append(maker.make(part))
            progress.add()
    store = resolver.store
    outside = replace(options.outside, policy=policy)
    contents += evidence.make(header, contents, locks, store, outside)
    audience, base, held = _for_whom(resolver, header, options)
    raw = manifest(header, audience, contents, base)
    verdicts = gates.judge(raw, store, SiteRules(), now, None)
    gates.require(verdicts)
    built = assemble(
        raw,
        contents,
        locks[IMPORTER],
        resolver.store,
        options.out,
        keys=options.keys,
        verify=options.verify,
        held=held,
    )
    _write_effective(options.out / "lock", folder, header, locks)
    rows = [item.as_json() for item in verdicts]
    (options.out / "gates.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    return built


def _for_whom(
    resolver: Resolver, header: HeaderLock, options: Options
) -> tuple[Mapping[str, Any], Mapping[str, str] | None, frozenset[str]]:
    """Return audience, base and what the site holds."""
    audience = resolver.spec.audience
    site = options.inventory
    if site is None:
        return audience, None, frozenset()
    if audience["site"] not in ("*", site.site):
        raise SpecError(
            f"the spec is for site {audience['site']!r}, the inventory of {site.site!r}"
        )
    if header.serial <= site.serial:
        raise LockError(
            f"serial {header.serial} is not newer than {site.serial}, which site {site.site!r} "
            "runs: run 'python -m bundle.builder lock', or give --serial"
        )
    return {**audience, "site": site.site}, site.base, site.blobs


def _expired(header: HeaderLock, valid_days: int, options: Options, now: datetime) -> HeaderLock:
    if not options.relock_missing:
        raise LockError(
            f"the locks' header expired at {header.expires:%Y-%m-%d}, no importer would take the "
            "bundle: run 'python -m bundle.builder lock --upgrade', or build with --relock-missing"
        )
    say(f"RELOCKED for this build only: the header expired at {header.expires:%Y-%m-%d}")
    return _fresh(header, valid_days, now)


def _waivers_ended(
    policy: Mapping[str, Sequence[Mapping[str, Any]]], header: HeaderLock, now: datetime
) -> bool:
    return any(
        header.created + timedelta(days=row["valid_days"]) <= now
        for row in policy.get("waivers", [])
    )


def _fresh(header: HeaderLock, valid_days: int, now: datetime) -> HeaderLock:
    fresh = next_header(None, now, valid_days)
    return replace(fresh, id=f"{header.id.partition('+')[0]}+relock", serial=header.serial)


def _write_effective(
    place: Path, folder: LockDir, header: HeaderLock, locks: Mapping[str, PartLock]
) -> None:
    """Write the locks this build really used beside the bundle."""
    effective = LockDir(place, folder.schema)
    for name in effective.names():
        if name not in locks:
            effective.remove(name)
    for name, lock in locks.items():
        effective.write(name, lock.dump())
    effective.write(HEADER, header.dump())
