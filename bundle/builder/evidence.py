"""What a bundle says about itself: bill of materials, vulnerability report, declared policy, VEX.

They travel as parts of their own types, are signed with the rest, and are what the gates judge.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from bundle.builder import components
from bundle.builder.advisory_database import Database, report
from bundle.builder.blobs import BlobStore
from bundle.builder.content import PartContent
from bundle.builder.errors import BuilderError, SpecError
from bundle.builder.lock import HeaderLock, PartLock
from tresor.bundle.canonical import dump_canonical
from tresor.bundle.errors import EnvironmentNotReadyError
from tresor.policy import clamscan, evaluate, malware, sbom, vex, vulnerabilities

SBOM_PART = "policy-sbom"
REPORT_PART = "policy-report"
VEX_PART = "policy-vex"


@dataclass(frozen=True, slots=True)
class Outside:
    """Evidence that people give: the spec's policy, a database, statements, a malware scan."""

    policy: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    database: Database | None = None
    vex: Path | None = None
    signatures: Path | None = None


def make(
    header: HeaderLock,
    contents: Sequence[PartContent],
    locks: Mapping[str, PartLock],
    store: BlobStore,
    outside: Outside,
) -> list[PartContent]:
    """Return the evidence parts over ``contents``."""
    policy = outside.policy
    bill = bill_of_materials(header, contents, locks, policy, store)
    raw = dump_canonical(bill)
    files = {
        vulnerabilities.FILE: dump_canonical(report(raw, header.created, outside.database)),
        evaluate.DECLARED_FILE: dump_canonical(
            {
                "schema": "policy/v1",
                **{key: list(rows) for key, rows in policy.items() if key in ("licences", "allow")},
                "waivers": [waiver_entry(row, header) for row in policy.get("waivers", [])],
            }
        ),
    }
    if outside.signatures is not None:
        files[malware.FILE] = _scan(contents, outside.signatures, store)
    parts = [
        _part(SBOM_PART, "sbom", {sbom.FILE: raw}, store),
        _part(REPORT_PART, "report", files, store),
    ]
    if outside.vex is not None:
        parts.append(_part(VEX_PART, "vex", {vex.FILE: _read(outside.vex)}, store))
    return parts


def bill_of_materials(
    header: HeaderLock,
    contents: Sequence[PartContent],
    locks: Mapping[str, PartLock],
    policy: Mapping[str, Sequence[Mapping[str, Any]]],
    store: BlobStore,
) -> dict[str, Any]:
    """Return the CycloneDX 1.6 document; the same contents give the same bytes."""
    decisions = {
        package: row["licence"]
        for row in policy.get("decisions", [])
        for package in row["packages"]
    }
    code = code_digest(Path(__file__).parent) + code_digest(Path(sbom.__file__).parent)
    found: list[dict[str, Any]] = []
    keys: list[str] = []
    for content in contents:
        name = content.entry["name"]
        source = components.Source(
            content.entry, content.model, locks.get(name), store, header.id, decisions
        )
        keys.append(components.key(source, code))
        found += _remembered(source, keys[-1], store)
    found.sort(key=lambda item: item["bom-ref"])
    serial = uuid.uuid5(uuid.NAMESPACE_URL, f"{header.id} {' '.join(keys)}")
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{serial}",
        "version": 1,
        "metadata": {
            "timestamp": header.created.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "tools": {"components": [{"type": "application", "name": "tresor bundle builder"}]},
            "component": {
                "type": "application",
                "bom-ref": "bundle",
                "name": "tresor-bundle",
                "version": header.id,
            },
        },
        "components": found,
    }


def _remembered(source: components.Source, key: str, store: BlobStore) -> list[dict[str, Any]]:
    path = store.cache / "results" / "components" / f"{key}.json"
    try:
        rows: list[dict[str, Any]] = json.loads(path.read_bytes())
    except (OSError, ValueError):
        rows = components.describe(source)
        write_result(path, json.dumps(rows))
    return rows


def write_result(path: Path, text: str) -> None:
    """Write a remembered result as a whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".new")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def _scan(contents: Sequence[PartContent], signatures: Path, store: BlobStore) -> bytes:
    """Return the report of a malware scan of everything but weights."""
    digests = sorted(
        {
            row["sha256"]
            for content in contents
            for row in content.entry["files"]
            if not (content.entry["type"] == "model" and row["path"].endswith(malware.WEIGHTS))
        }
    )
    try:
        return clamscan.scan({digest: store.path(digest) for digest in digests}, signatures)
    except EnvironmentNotReadyError as error:
        raise BuilderError(f"malware scan: {error}") from error


def waiver_entry(row: Mapping[str, Any], header: HeaderLock) -> dict[str, Any]:
    """Return a waiver with its end, which the spec gives in days after the bundle's date."""
    ends = header.created + timedelta(days=row["valid_days"])
    kept = {key: value for key, value in row.items() if key != "valid_days"}
    return {**kept, "expires": ends.strftime("%Y-%m-%dT%H:%M:%SZ")}


def code_digest(folder: Path) -> str:
    """Return the digest of a package's sources: a result holds only for the code that made it."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.py")):
        digest.update(f"{path.name}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _part(name: str, kind: str, files: Mapping[str, bytes], store: BlobStore) -> PartContent:
    rows = []
    for path, raw in sorted(files.items()):
        blob = store.add_bytes(raw)
        rows.append({"path": path, "size": blob.size, "sha256": blob.sha256})
    return PartContent({"name": name, "type": kind, "scope": "product", "files": rows})


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SpecError(f"--vex {path}: cannot be read: {error.strerror}") from error
