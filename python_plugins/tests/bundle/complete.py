"""A small but real bundle: packages, weights and all the evidence that the gates want to see."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from python_plugins.tests.bundle.helpers import Maker
from python_plugins.tests.policy.bench import CREATED, REASON, Bench, Files, good_scan, stamp
from tresor.policy.rules import WAIVERS


def with_environment(files: Files) -> Files:
    """Return an environment's files with the description that the importer reads."""
    pins = hashlib.sha256(files["requirements.txt"]).hexdigest()
    described = {"name": "app", "version": "1.0", "python": "3.11", "requirements_sha256": pins}
    return {**files, "environment.json": json.dumps(described).encode()}


@dataclass
class Complete(Maker):
    """Signs what a :class:`Bench` holds; tests spoil the bench, or the documents.

    Attributes:
        waived: (site, end) of waivers that stand for a vulnerability database and a malware scan.
        scan: the malware scan's report, None for the right one.
    """

    bench: Bench = field(default_factory=lambda: Bench(Path("/nonexistent")))
    waived: tuple[str, datetime] | None = None
    scan: bytes | None = None

    def make(self, **changes: object) -> Path:
        parts = {
            name: (kind, with_environment(files) if kind == "wheels" else files)
            for name, (kind, files) in self.bench.parts.items()
        }
        self.bench.parts = parts
        documents = self._documents(parts) if self.bench.evidence else {}
        self.parts = {
            name: (kind, "product", files) for name, (kind, files) in {**parts, **documents}.items()
        }
        self.templates = self.bench.templates
        return super().make(**{"created": stamp(CREATED), **changes})

    def _documents(self, parts: dict[str, tuple[str, Files]]) -> dict[str, tuple[str, Files]]:
        documents = self.bench.documents()
        report = dict(documents["policy-report"][1])
        if self.waived is None:
            report["malware-scan.json"] = self.scan or good_scan(parts)
        else:
            report["report.json"] = _without_database(report["report.json"])
            report["policy.json"] = _waivers(*self.waived)
        return {**documents, "policy-report": ("report", report)}


def _without_database(raw: bytes) -> bytes:
    report = json.loads(raw)
    return json.dumps({**report, "database": None, "audited": []}).encode()


def _waivers(site: str, end: datetime) -> bytes:
    row = {"site": site, "reason": REASON, "approved_by": "Ada", "expires": stamp(end)}
    rows = [{"kind": kind, **row} for kind in WAIVERS]
    return json.dumps({"schema": "policy/v1", "waivers": rows}).encode()


def days(count: int) -> datetime:
    """Return the moment so many days after the bundle was made."""
    return CREATED + timedelta(days=count)
