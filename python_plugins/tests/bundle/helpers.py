"""A tiny but complete bundle, signed with lab keys, and a store to import it into."""

from __future__ import annotations

import hashlib
import json
import shutil
import struct
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tresor.bundle import metadata
from tresor.bundle.layout import Store
from tresor.bundle.machine import Importer, Machine, Outcome, Request, locked
from tresor.bundle.manifest import dump_canonical
from tresor.bundle.medium import Medium
from tresor.bundle.signing import place_manifest, sign_bundle

NOW = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)
HERE = Machine("amd64", "debian-13")


def safetensors(values: bytes = b"\0" * 8) -> bytes:
    """Return a safetensors file with one tensor of bytes."""
    header = {"w": {"dtype": "U8", "shape": [len(values)], "data_offsets": [0, len(values)]}}
    raw = json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + values


def wheel_part(name: str, wheel: str, content: bytes, version: str = "1.0") -> dict[str, bytes]:
    """Return the files of an environment's part with one wheel."""
    pin = hashlib.sha256(content).hexdigest()
    project = wheel.partition("-")[0].replace("_", "-")
    requirements = f"{project}=={version} --hash=sha256:{pin}\n".encode()
    environment = {
        "name": name,
        "version": version,
        "python": "3.11",
        "requirements_sha256": hashlib.sha256(requirements).hexdigest(),
    }
    return {
        wheel: content,
        "requirements.txt": requirements,
        "environment.json": json.dumps(environment).encode(),
    }


def default_parts() -> dict[str, tuple[str, str, dict[str, bytes]]]:
    """Return part name -> (type, scope, files)."""
    return {
        "debs-debian-12": (
            "debs",
            "product",
            {
                "dists/site/Release": b"Suite: site\n",
                "dists/site/main/binary-amd64/Packages": b"Package: x\n",
                "pool/x_1_amd64.deb": b"deb",
            },
        ),
        "distribution": (
            "distribution",
            "product",
            {"playbooks/site.yml": b"---\n", "roles/a/empty": b"", "roles/b/empty": b""},
        ),
        "model-tiny": (
            "model",
            "lab",
            {"model.safetensors": safetensors(), "config.json": b'{"a": 1.5}'},
        ),
        "wheels-demo": (
            "wheels",
            "product",
            wheel_part("demo", "demo_x-1.0-py3-none-any.whl", b"w"),
        ),
    }


@dataclass
class Maker:
    """Writes and signs bundles below a folder."""

    root: Path
    keys: Path
    fingerprint: str = ""
    parts: dict[str, tuple[str, str, dict[str, bytes]]] = field(default_factory=default_parts)
    templates: dict[str, str] = field(default_factory=dict)

    @property
    def bundle(self) -> Path:
        return self.root / "bundle"

    def manifest(self, **changes: object) -> dict[str, object]:
        """Return the manifest as an object, with changes to its top level."""
        document: dict[str, object] = {
            "schema": "bundle/v1",
            "id": "2026.11-1",
            "serial": 1,
            "created": "2026-11-20T00:00:00Z",
            "expires": "2027-11-20T00:00:00Z",
            "audience": {"site": "*", "arch": ["amd64"], "os": ["debian-12", "debian-13"]},
            "base": None,
            "parts": [
                {
                    "name": name,
                    "type": kind,
                    "scope": scope,
                    "files": [
                        {
                            "path": path,
                            "size": len(content),
                            "sha256": hashlib.sha256(content).hexdigest(),
                        }
                        for path, content in sorted(files.items())
                    ],
                }
                for name, (kind, scope, files) in sorted(self.parts.items())
            ],
            "models": [
                {
                    "name": name.removeprefix("model-"),
                    "revision": "abc123",
                    "format": "safetensors",
                    "license": "Apache-2.0",
                    **self._pin(name.removeprefix("model-")),
                }
                for name, (kind, _, _) in sorted(self.parts.items())
                if kind == "model"
            ],
        }
        return {**document, **changes}

    def _pin(self, model: str) -> dict[str, str]:
        digest = self.templates.get(model)
        return {"template_sha256": digest} if digest else {}

    def make(self, **changes: object) -> Path:
        """Write blobs, manifest and signatures; return the bundle folder. Older blobs go."""
        shutil.rmtree(self.bundle / "blobs", ignore_errors=True)
        for _, _, files in self.parts.values():
            for content in files.values():
                digest = hashlib.sha256(content).hexdigest()
                path = self.bundle / "blobs" / digest[:2] / digest
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
        place_manifest(self.bundle, dump_canonical(self.manifest(**changes)))
        self.sign()
        return self.bundle

    def sign(self, **options: object) -> None:
        """Sign what lies in the bundle folder."""
        sign_bundle(self.bundle, self.keys, **options)  # type: ignore[arg-type]

    def blob(self, content: bytes) -> Path:
        """Return where a content lies on the medium."""
        digest = hashlib.sha256(content).hexdigest()
        return self.bundle / "blobs" / digest[:2] / digest


def sign_unseen(maker: Maker, raw: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sign bytes as the manifest without a look at them, as a stolen builder would."""
    maker.make()
    for old in (maker.bundle / "targets").iterdir():
        old.unlink()
    digest = hashlib.sha256(raw).hexdigest()
    (maker.bundle / "targets" / f"{digest}.bundle.json").write_bytes(raw)
    good = metadata.parse_manifest(dump_canonical(maker.manifest()))
    with monkeypatch.context() as patch:
        patch.setattr(metadata, "parse_manifest", lambda _raw: replace(good, digest=digest))
        maker.sign()


@dataclass
class Site:
    """A store with two approvers."""

    store: Store
    signers: Path
    people: dict[str, Path]

    def importer(self, now: datetime = NOW, machine: Machine = HERE) -> Importer:
        return Importer(self.store, now=now, machine=machine, quiet=True)

    def take(
        self,
        maker: Maker,
        *,
        now: datetime = NOW,
        site: str = "lab",
        lab: bool = True,
        fingerprint: str | None = None,
        machine: Machine = HERE,
    ) -> Outcome:
        """Import a bundle until it waits for approval."""
        request = Request(site, fingerprint or maker.fingerprint, lab)
        with locked(self.store):
            return self.importer(now, machine).import_bundle(Medium(maker.bundle), request)

    def approve(self, person: str, key: Path | None = None, now: datetime = NOW) -> Outcome:
        with locked(self.store):
            return self.importer(now).approve(
                person, self.signers, key=key or self.people[person], signature=None
            )

    def activate(self, now: datetime = NOW) -> Outcome:
        with locked(self.store):
            return self.importer(now).activate(self.signers)

    def full(self, maker: Maker) -> Outcome:
        """Import, approve twice and activate."""
        self.take(maker)
        for person in self.people:
            self.approve(person)
        return self.activate()

    def events(self) -> list[str]:
        return [json.loads(line)["event"] for line in self.store.events.read_text().splitlines()]
