"""Debian packages: resolve the closure against a declared baseline, fetch, check what is gone."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from bundle.builder import files, sources
from bundle.builder.apt import Apt, Vendor, parse_stanzas
from bundle.builder.blobs import Blob, BlobStore, hash_file
from bundle.builder.command import run
from bundle.builder.context import require_space
from bundle.builder.errors import FetchError, GoneError, SpecError
from bundle.builder.lock import LockedFile, PartLock
from bundle.builder.progress import Progress
from tresor.policy.debs import inspect
from tresor.policy.verdict import RefusalError

_BATCH = 16
Key = tuple[str, str]


class Mirror(Protocol):
    """What resolving and fetching need of apt; the tests have another one."""

    def update(self) -> None: ...
    def releases(self) -> dict[str, Path]: ...
    def origins(self) -> dict[Key, str]: ...
    def set_baseline(self, stanzas: Sequence[Mapping[str, str]]) -> None: ...
    def available(self, priorities: Sequence[str]) -> list[str]: ...
    def closure(self, packages: Sequence[str]) -> list[Key]: ...
    def show(self, packages: Sequence[Key]) -> dict[Key, dict[str, str]]: ...
    def download(self, packages: Sequence[Key], folder: Path) -> None: ...


def open_mirror(want: Mapping[str, Any], cache: Path) -> Apt:
    """Return apt for the release a part asks for."""
    vendors = [
        Vendor(sources.get(row["source"], "apt"), tuple(row["packages"]))
        for row in want.get("vendors", [])
    ]
    # What apt keeps of a vendor's repository must not reach parts without that vendor.
    folder = cache / "apt" / want["name"] if vendors else cache / "apt"
    return Apt(folder, want["codename"], want["architecture"], vendors)


def resolve(want: Mapping[str, Any], inputs: str, mirror: Mirror, store: BlobStore) -> PartLock:
    """Resolve a debs part.

    The baseline is what every host has before the first package comes from the store: all packages
    of the stated priorities and the listed names, with their closure. It is not carried; its
    digest in the lock says against what was resolved. Packages of the baseline that a carried
    package names by exact version are carried too, so that a host with an older patch level of
    them can still be brought to a consistent state.

    Raises:
        FetchError: unknown package, no mirror.
    """
    with Progress(f"resolve {want['name']}", 4) as progress:
        mirror.update()
        progress.add()
        mirror.set_baseline([])
        wanted = [*mirror.available(want["baseline"]["priorities"]), *want["baseline"]["packages"]]
        baseline = mirror.closure(sorted(set(wanted)))
        stanzas = mirror.show(baseline)
        progress.add()
        mirror.set_baseline([stanzas[key] for key in baseline])
        extra = files.resolve(want.get("files", []), store, want["name"])
        own = [_own_package(entry, store) for entry in extra]
        needed = [name for _, names in own for name in names]
        closure = mirror.closure(sorted({*want["packages"], *needed}))
        found = mirror.show(closure)
        absent = [key for key in closure if key not in found]
        if absent:
            raise FetchError(f"{want['name']}: the index has no digest for {absent[0][0]}")
        twins = exact_twins(found, stanzas)
        found |= {key: stanzas[key] for key in twins}
        progress.add()
        evidence = _evidence(mirror, store)
        progress.add()
    origins = mirror.origins()
    licences = {row["source"]: row.get("licence", "") for row in want.get("vendors", [])}
    locked = [_locked(fields, origins, licences) for fields in found.values()]
    locked += [entry for entry, _ in own]
    _same_versions(want.get("same_version", []), locked, want["name"])
    return PartLock(
        part=want["name"],
        type="debs",
        inputs=inputs,
        files=tuple(locked),
        details={
            "baseline": {"packages": len(baseline), "sha256": baseline_digest(baseline)},
            "evidence": evidence,
        },
    )


def baseline_digest(baseline: Sequence[Key]) -> str:
    """Return the SHA-256 over the sorted ``name=version`` lines of a baseline."""
    text = "".join(f"{name}={version}\n" for name, version in sorted(baseline))
    return hashlib.sha256(text.encode()).hexdigest()


def exact_twins(
    found: Mapping[Key, Mapping[str, str]], baseline: Mapping[Key, Mapping[str, str]]
) -> list[Key]:
    """Return the baseline packages that a found package needs in exactly one version."""
    by_name = {name: (name, version) for name, version in baseline}
    twins: set[Key] = set()
    queue = list(found.values())
    while queue:
        fields = queue.pop()
        relations = f"{fields.get('Pre-Depends', '')},{fields.get('Depends', '')}"
        for relation in relations.replace("|", ",").split(","):
            name, _, rest = relation.strip().partition(" ")
            key = by_name.get(name.partition(":")[0])
            if key and rest.startswith("(=") and key not in twins and key not in found:
                twins.add(key)
                queue.append(baseline[key])
    return sorted(twins)


def fetch(lock: PartLock, mirror: Mirror, store: BlobStore) -> None:
    """Bring missing packages and release files into the cache.

    Raises:
        GoneError: the mirror has moved on; nothing of this part is usable as locked.
        DigestError: a package is not what the lock says.
    """
    files.fetch(lock.files, store, lock.part)
    packages = [entry for entry in lock.files if not store.has(entry.blob)]
    evidence = [item for item in lock.details["evidence"] if not store.has(_evidence_blob(item))]
    if not packages and not evidence:
        return
    mirror.update()
    offered = mirror.show([(entry.name, entry.version) for entry in packages])
    missing = [
        f"{entry.name} {entry.version}"
        for entry in packages
        if offered.get((entry.name, entry.version), {}).get("SHA256") != entry.sha256
    ]
    now = {item["suite"]: item for item in _evidence(mirror, store)}
    missing += [
        f"release file of {item['suite']}"
        for item in evidence
        if now.get(item["suite"], {}).get("sha256") != item["sha256"]
    ]
    _download(lock.part, packages, offered, mirror, store)
    if missing:
        raise GoneError(lock.part, tuple(missing))


def renew_evidence(lock: PartLock, mirror: Mirror, store: BlobStore) -> PartLock:
    """Return the lock with the release files the mirror has now; packages stay as they are."""
    details = {**lock.details, "evidence": _evidence(mirror, store)}
    return PartLock(lock.part, lock.type, lock.inputs, lock.files, details)


def control_text(path: Path) -> str:
    """Return the control paragraph of a package file (``dpkg-deb --field``)."""
    return run(["dpkg-deb", "--field", str(path)], what=f"read {path.name}")


def _download(
    part: str,
    packages: Sequence[LockedFile],
    offered: Mapping[Key, Mapping[str, str]],
    mirror: Mirror,
    store: BlobStore,
) -> None:
    wanted = [
        entry
        for entry in packages
        if offered.get((entry.name, entry.version), {}).get("SHA256") == entry.sha256
    ]
    if not wanted:
        return
    total = sum(entry.size for entry in wanted)
    require_space(store.cache, total * 2 + 100_000_000, f"fetching {part}")
    with Progress(f"fetch {part}", len(wanted), total) as progress:
        for start in range(0, len(wanted), _BATCH):
            batch = wanted[start : start + _BATCH]
            with store.workdir("debs") as folder:
                mirror.download([(entry.name, entry.version) for entry in batch], folder)
                got = {blob.sha256: path for path, blob in _hashed(folder)}
                for entry in batch:
                    path = got.get(entry.sha256)
                    if path is None:
                        raise FetchError(
                            f"{part}: apt delivered no {entry.name} {entry.version} with sha256 "
                            f"{entry.sha256}"
                        )
                    store.add_file(path, entry.blob)
                    progress.add(1, entry.size)


def _hashed(folder: Path) -> list[tuple[Path, Blob]]:
    return [(path, hash_file(path)) for path in sorted(folder.glob("*.deb"))]


def _evidence(mirror: Mirror, store: BlobStore) -> list[dict[str, Any]]:
    items = []
    for suite, path in sorted(mirror.releases().items()):
        blob = store.add_bytes(path.read_bytes())
        items.append({"suite": suite, "size": blob.size, "sha256": blob.sha256})
    return items


def _evidence_blob(item: Mapping[str, Any]) -> Blob:
    return Blob(item["sha256"], item["size"])


def _own_package(entry: LockedFile, store: BlobStore) -> tuple[LockedFile, list[str]]:
    """Return the lock entry of a package from a named source, and the packages it depends on.

    Raises:
        SpecError: it is no Debian package, or another one than the spec says.
    """
    path = store.path(entry.sha256)
    try:
        with path.open("rb") as stream:
            facts = inspect(stream, entry.size, entry.file)
    except RefusalError as error:
        raise SpecError(f"{entry.file}: {error.seen}") from error
    if (facts.name, facts.version) != (entry.name, entry.version):
        raise SpecError(
            f"{entry.file} is {facts.name} {facts.version}, the spec says {entry.name} "
            f"{entry.version}: correct the spec"
        )
    (fields,) = parse_stanzas(control_text(path))
    relations = f"{fields.get('Pre-Depends', '')},{fields.get('Depends', '')}".split(",")
    # The first alternative is the one its maker prefers.
    names = [item.partition("|")[0].split("(")[0].split(":")[0].strip() for item in relations]
    locked = LockedFile(
        facts.name,
        facts.version,
        f"{facts.name}_{facts.version.partition(':')[2] or facts.version}_{facts.architecture}.deb",
        entry.size,
        entry.sha256,
        {**entry.extra, "architecture": facts.architecture},
    )
    return locked, [name for name in names if name]


def _same_versions(
    groups: Sequence[Sequence[str]], locked: Sequence[LockedFile], part: str
) -> None:
    """Some packages work only together in one version: NVIDIA's driver and its fabric manager.

    Raises:
        FetchError: a package is absent, or the upstream versions differ.
    """
    known = {entry.name: entry.version for entry in locked}
    for group in groups:
        seen = {name: known.get(name, "absent") for name in group}
        upstream = {version.rpartition(":")[2].partition("-")[0] for version in seen.values()}
        if len(upstream) != 1 or "absent" in upstream:
            shown = ", ".join(f"{name} {version}" for name, version in seen.items())
            raise FetchError(
                f"{part}: these must have one version: {shown}. Name one version for each in the "
                "spec (package=version) that the mirror offers for all of them"
            )


def _locked(
    fields: Mapping[str, str], origins: Mapping[Key, str], licences: Mapping[str, str]
) -> LockedFile:
    vendor = origins.get((fields["Package"], fields["Version"]), "")
    told = {"source": vendor, "licence": licences.get(vendor, "")}
    return LockedFile(
        name=fields["Package"],
        version=fields["Version"],
        file=fields["Filename"].rsplit("/", 1)[-1],
        size=int(fields["Size"]),
        sha256=fields["SHA256"],
        extra={
            "architecture": fields["Architecture"],
            **{key: value for key, value in told.items() if value},
        },
    )
