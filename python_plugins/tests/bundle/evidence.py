"""Bundles that the policy gates take: real packages, and the evidence about them."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path

from bundle.tests import makers
from python_plugins.tests.bundle.helpers import Maker, wheel_part
from python_plugins.tests.policy import bench
from tresor.policy import malware


def with_evidence(maker: Maker, created: datetime) -> dict[str, str]:
    """Give the maker parts that pass every gate when judged a day after ``created``.

    Returns:
        What the manifest must say about its times.
    """
    parts = bench.default_parts()
    name, raw = makers.wheel("demo-app", "1.0", {"demo.py": b"1"})
    parts["wheels-app"] = ("wheels", wheel_part("app", name, raw))
    made = bench.Bench(Path("unused"), parts=parts)
    documents = made.documents()
    report = json.loads(documents["policy-report"][1]["report.json"])
    scan = json.loads(bench.good_scan(parts))
    report["created"] = bench.stamp(created)
    report["database"]["date"] = bench.stamp(created - timedelta(days=1))
    scan["signatures"][0]["date"] = bench.stamp(created)
    documents["policy-report"][1]["report.json"] = json.dumps(report).encode()
    documents["policy-report"][1][malware.FILE] = json.dumps(scan).encode()
    everything = {**parts, **documents}
    maker.parts = {name: (kind, "product", files) for name, (kind, files) in everything.items()}
    maker.templates = made.templates
    return {
        "created": bench.stamp(created),
        "expires": bench.stamp(created + timedelta(days=300)),
    }
