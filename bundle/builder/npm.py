"""npm packages: resolve a closure without running scripts, fetch tarballs with ``npm pack``."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bundle.builder.blobs import BlobStore
from bundle.builder.command import run
from bundle.builder.context import require_space
from bundle.builder.errors import DigestError, FetchError
from bundle.builder.lock import LockedFile, PartLock
from bundle.builder.progress import Progress

_BATCH = 10


def resolve(want: Mapping[str, Any], inputs: str, store: BlobStore) -> PartLock:
    """Resolve an npm part and fetch its tarballs, whose SHA-256 the registry does not tell.

    Raises:
        FetchError: no solution, or a package that is no registry tarball.
        DigestError: a tarball is not what the registry's integrity value says.
    """
    with store.workdir("npm") as folder:
        args = ["npm", "install", "--package-lock-only", "--ignore-scripts", "--omit=dev"]
        args += ["--omit=optional", "--silent", *_cache(store), *want["packages"]]
        (folder / "package.json").write_text('{"private": true}', encoding="utf-8")
        run(args, what=f"resolve {want['name']}", cwd=folder)
        text = (folder / "package-lock.json").read_text(encoding="utf-8")
    tree = parse_package_lock(text)
    with Progress(f"resolve {want['name']}", len(tree)) as progress:
        tarballs = _pack(sorted(tree), store, progress)
    entries = []
    for (name, version), node in tree.items():
        path, integrity = tarballs[(name, version)]
        check_integrity(path.read_bytes(), integrity=node["integrity"], name=name)
        if integrity != node["integrity"]:
            raise DigestError(f"{name} {version}: npm pack and the lock file disagree on integrity")
        file = tarball_name(name, version)
        blob = store.add_file(path)
        extra = {"paths": sorted(node["paths"])}
        entries.append(LockedFile(name, version, file, blob.size, blob.sha256, extra))
    return PartLock(want["name"], "npm", inputs, tuple(entries))


def parse_package_lock(text: str) -> dict[tuple[str, str], dict[str, Any]]:
    """Return {(name, version): {"paths", "integrity"}} of an npm lock file of version 2 or 3.

    Raises:
        FetchError: a package from elsewhere than the registry, or without a SHA-512.
    """
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for path, node in json.loads(text)["packages"].items():
        if not path:
            continue
        name = node.get("name") or path.rpartition("node_modules/")[2]
        integrity = node.get("integrity", "")
        if node.get("link") or not integrity.startswith("sha512-"):
            raise FetchError(f"{name}: no registry package with a SHA-512, cannot be carried")
        entry = found.setdefault(
            (name, node["version"]), {"paths": [], "integrity": integrity.split()[0]}
        )
        entry["paths"].append(path)
    return found


def check_integrity(raw: bytes, *, integrity: str, name: str) -> None:
    """Compare content with an npm integrity value.

    Raises:
        DigestError: another content.
    """
    seen = "sha512-" + base64.b64encode(hashlib.sha512(raw).digest()).decode()
    if seen != integrity:
        raise DigestError(f"{name}: integrity is {seen}, the registry says {integrity}")


def tarball_name(name: str, version: str) -> str:
    """Return the file name npm gives a package's tarball."""
    return f"{name.removeprefix('@').replace('/', '-')}-{version}.tgz"


def fetch(lock: PartLock, store: BlobStore) -> None:
    """Bring missing tarballs into the cache.

    Raises:
        DigestError: a tarball is not what the lock says.
    """
    missing = [entry for entry in lock.files if not store.has(entry.blob)]
    if not missing:
        return
    require_space(store.cache, sum(entry.size for entry in missing) * 2, f"fetching {lock.part}")
    with Progress(f"fetch {lock.part}", len(missing)) as progress:
        packed = _pack([(entry.name, entry.version) for entry in missing], store, progress)
    for entry in missing:
        store.add_file(packed[(entry.name, entry.version)][0], entry.blob)


def package_tree(lock: PartLock) -> bytes:
    """Return ``package-tree.json``: which tarball is unpacked at which place."""
    rows = [
        {"path": path, "file": entry.file, "name": entry.name, "version": entry.version}
        for entry in lock.files
        for path in entry.extra["paths"]
    ]
    rows.sort(key=lambda row: row["path"])
    return (json.dumps(rows, indent=1) + "\n").encode()


def _cache(store: BlobStore) -> list[str]:
    return ["--cache", str(store.cache / "npm"), "--no-audit", "--no-fund", "--no-update-notifier"]


def _pack(
    packages: Sequence[tuple[str, str]], store: BlobStore, progress: Progress
) -> dict[tuple[str, str], tuple[Path, str]]:
    """Return {(name, version): (tarball in the cache, integrity)}."""
    result: dict[tuple[str, str], tuple[Path, str]] = {}
    for start in range(0, len(packages), _BATCH):
        batch = packages[start : start + _BATCH]
        with store.workdir("npm") as folder:
            args = ["npm", "pack", "--json", "--ignore-scripts", "--silent", *_cache(store)]
            args += [f"{name}@{version}" for name, version in batch]
            output = json.loads(run(args, what="npm pack", cwd=folder))
            rows = output.values() if isinstance(output, dict) else output
            for row in rows:
                path = folder / tarball_name(row["name"], row["version"])
                if not path.is_file():
                    raise FetchError(f"npm pack delivered no {path.name}")
                blob = store.add_file(path)
                result[(row["name"], row["version"])] = (store.path(blob.sha256), row["integrity"])
        progress.add(len(batch))
    for name, version in packages:
        if (name, version) not in result:
            raise FetchError(f"npm pack delivered no {name} {version}")
    return result
