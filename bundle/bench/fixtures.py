"""Bundles to measure with: random bytes, signed with keys made for this run."""

from __future__ import annotations

import hashlib
import os
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tresor.bundle import ceremony
from tresor.bundle.canonical import dump_canonical
from tresor.bundle.signing import create_lab_keys, place_manifest, sign_bundle

MIB = 1024 * 1024
SITE = "bench"
_PEOPLE = {
    "root": ("root-a", "root-b", "root-c"),
    "targets": ("anna", "ben", "cleo"),
    "builder": ("builder",),
}


@dataclass(frozen=True)
class Fixture:
    """A signed bundle: its folder, the root's fingerprint, its contents and their bytes."""

    folder: Path
    fingerprint: str
    blobs: tuple[Path, ...]
    size: int


def make(place: Path, name: str, count: int, size: int) -> Fixture:
    """Write a bundle of ``count`` contents of ``size`` bytes each."""
    folder = place / name / "bundle"
    blobs, entries = [], []
    for number in range(count):
        sha256, path = _content(folder, size)
        blobs.append(path)
        entries.append({"path": f"file-{number:06d}.bin", "size": size, "sha256": sha256})
    keys = place / name / "keys"
    fingerprint = create_lab_keys(keys)
    place_manifest(folder, _manifest(entries))
    sign_bundle(folder, keys)
    return Fixture(folder, fingerprint, tuple(blobs), count * size)


def make_production_keys(place: Path, bundle: Path) -> str:
    """Sign a bundle as in production, with OpenSSH keys and thresholds; return the fingerprint."""
    keys, roots = place / "people", place / "roots"
    keys.mkdir()
    now = datetime.now(UTC).replace(microsecond=0)
    for name in (name for names in _PEOPLE.values() for name in names):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(keys / name)],
            check=True,
        )
    added = {role: [keys / f"{name}.pub" for name in names] for role, names in _PEOPLE.items()}
    draft = ceremony.draft_root(roots, added, [], {}, now)
    for name in ("root-a", "root-b"):
        draft = ceremony.sign_draft(draft, keys / name, now)
    fingerprint = hashlib.sha256(draft.read_bytes()).hexdigest()
    release = ceremony.draft_release(bundle, roots)
    for name in ("anna", "ben"):
        release = ceremony.sign_draft(release, keys / name, now)
    ceremony.seal(bundle, keys / "builder", now)
    return fingerprint


def _content(folder: Path, size: int) -> tuple[str, Path]:
    """Write one content of random bytes under its digest."""
    digest = hashlib.sha256()
    temporary = folder / "blobs" / "new"
    temporary.parent.mkdir(parents=True, exist_ok=True)
    with temporary.open("wb") as stream:
        left = size
        while left:
            chunk = os.urandom(min(left, 4 * MIB))
            digest.update(chunk)
            stream.write(chunk)
            left -= len(chunk)
    name = digest.hexdigest()
    path = folder / "blobs" / name[:2] / name
    path.parent.mkdir(exist_ok=True)
    temporary.replace(path)
    return name, path


def _manifest(entries: list[dict[str, object]]) -> bytes:
    now = datetime.now(UTC).replace(microsecond=0)
    part = {"name": "measured", "type": "binaries", "scope": "product", "files": entries}
    return dump_canonical(
        {
            "schema": "bundle/v1",
            "id": "bench-1",
            "serial": 1,
            "created": f"{now - timedelta(hours=1):%Y-%m-%dT%H:%M:%SZ}",
            "expires": f"{now + timedelta(days=30):%Y-%m-%dT%H:%M:%SZ}",
            "audience": {"site": SITE, "arch": ["*"], "os": ["*"]},
            "base": None,
            "parts": [part],
            "models": [],
        }
    )
