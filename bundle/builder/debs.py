"""Debian packages: resolve the closure against a declared baseline, fetch, check what is gone."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from bundle.builder.apt import Apt
from bundle.builder.blobs import Blob, BlobStore, hash_file
from bundle.builder.command import run
from bundle.builder.context import require_space
from bundle.builder.errors import FetchError, GoneError
from bundle.builder.lock import LockedFile, PartLock
from bundle.builder.progress import Progress

_BATCH = 16
Key = tuple[str, str]


class Mirror(Protocol):
    """What resolving and fetching need of apt; the tests have another one."""

    def update(self) -> None: ...
    def releases(self) -> dict[str, Path]: ...
    def set_baseline(self, stanzas: Sequence[Mapping[str, str]]) -> None: ...
    def available(self, priorities: Sequence[str]) -> list[str]: ...
    def closure(self, packages: Sequence[str]) -> list[Key]: ...
    def show(self, packages: Sequence[Key]) -> dict[Key, dict[str, str]]: ...
    def download(self, packages: Sequence[Key], folder: Path) -> None: ...


def open_mirror(want: Mapping[str, Any], cache: Path) -> Apt:
    """Return apt for the release a part asks for."""
    return Apt(cache / "apt", want["codename"], want["architecture"])


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
        closure = mirror.closure(sorted(want["packages"]))
        found = mirror.show(closure)
        absent = [key for key in closure if key not in found]
        if absent:
            raise FetchError(f"{want['name']}: the index has no digest for {absent[0][0]}")
        twins = exact_twins(found, stanzas)
        found |= {key: stanzas[key] for key in twins}
        progress.add()
        evidence = _evidence(mirror, store)
        progress.add()
    files = tuple(_locked(fields) for fields in found.values())
    return PartLock(
        part=want["name"],
        type="debs",
        inputs=inputs,
        files=files,
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


def _locked(fields: Mapping[str, str]) -> LockedFile:
    return LockedFile(
        name=fields["Package"],
        version=fields["Version"],
        file=fields["Filename"].rsplit("/", 1)[-1],
        size=int(fields["Size"]),
        sha256=fields["SHA256"],
        extra={"architecture": fields["Architecture"]},
    )
