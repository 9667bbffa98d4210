"""A carried copy of an advisory database (OSV records) and the report made with it.

The database is a folder of OSV JSON records, any depth, as OSV and its mirrors hand them out by
ecosystem. Its date is that of its newest record.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from bundle.builder.errors import BuilderError
from tresor.bundle.canonical import dump_canonical
from tresor.policy import advisories, purl, sbom
from tresor.policy.verdict import RefusalError

_TIME = "%Y-%m-%dT%H:%M:%SZ"
_SCANNER = {"name": "tresor-osv", "version": "1"}


@dataclass(frozen=True, slots=True)
class Database:
    """Records with their newest change, and the digest over all of them."""

    records: tuple[dict[str, Any], ...]
    date: datetime
    sha256: str


def load(folder: Path) -> Database:
    """Read a folder of OSV records.

    Raises:
        BuilderError: no record, or one that is none.
    """
    records: list[dict[str, Any]] = []
    digest = hashlib.sha256()
    newest: datetime | None = None
    for path in sorted(folder.rglob("*.json")):
        raw = path.read_bytes()
        try:
            record = json.loads(raw)
            changed = datetime.fromisoformat(record["modified"])
            record["id"], record["affected"]
        except (ValueError, KeyError, TypeError) as error:
            raise BuilderError(f"{path}: no OSV record ({error!r}): remove it") from error
        digest.update(hashlib.sha256(raw).digest())
        newest = changed if newest is None else max(newest, changed)
        records.append(record)
    if newest is None:
        raise BuilderError(f"{folder} has no OSV record (*.json): unpack the database there")
    return Database(tuple(records), newest, digest.hexdigest())


def report(bill: bytes, created: datetime, database: Database | None) -> dict[str, Any]:
    """Return ``report.json`` over a bill of materials; without a database it audits nothing."""
    components = sbom.parse(bill) if database else ()
    audited = sorted({item.purl for item in components})
    findings = _findings(components, database) if database else []
    return {
        "schema": "vulnerability-report/v1",
        "sbom_sha256": hashlib.sha256(bill).hexdigest(),
        "scanner": _SCANNER,
        "created": created.strftime(_TIME),
        "database": database
        and {"name": "OSV", "date": database.date.strftime(_TIME), "sha256": database.sha256},
        "audited": audited,
        "findings": findings,
    }


def _findings(components: Sequence[sbom.Component], database: Database) -> list[dict[str, Any]]:
    try:
        hits = list(advisories.match(components, database.records))
    except RefusalError as error:
        raise BuilderError(f"{error.thing}: {error.seen}") from error
    return [
        {
            "id": hit.id,
            "purl": hit.purl,
            "severity": hit.severity,
            "fixed": hit.fixed or None,
            "exploited": hit.exploited,
            "published": hit.published.strftime(_TIME),
        }
        for hit in sorted(hits, key=lambda hit: (hit.purl, hit.id))
    ]


def news(bill: bytes, database: Database) -> bytes:
    """Return ``advisories.json``: the records that concern packages of an installed bundle.

    Every record about a package of the bill is carried, also those that its present version is safe
    from: the site matches them itself.
    """
    components = sbom.parse(bill)
    packages = {purl.parse(item.purl).package for item in components}
    records = [record for record in database.records if packages & advisories.packages_of(record)]
    return dump_canonical(
        {
            "schema": "advisories/v1",
            "sbom_sha256": hashlib.sha256(bill).hexdigest(),
            "date": database.date.strftime(_TIME),
            "audited": sorted({item.purl for item in components}),
            "records": [_plain(record) for record in records],
        }
    )


def _plain(record: dict[str, Any]) -> dict[str, Any]:
    """Keep what matching needs; free text and scores as decimals stay behind."""
    specific = record.get("database_specific") or {}
    kept: dict[str, Any] = {
        key: record[key] for key in ("id", "modified", "published", "withdrawn") if key in record
    }
    kept["affected"] = [
        {key: row[key] for key in ("package", "versions", "ranges") if key in row}
        for row in record["affected"]
    ]
    kept["database_specific"] = {
        key: specific[key] if key != "cvss_score" else str(specific[key])
        for key in ("severity", "cvss_score", "known_exploited")
        if key in specific
    }
    return kept
