"""Advisory bundles judge what is installed; versions are ordered as their ecosystems do it."""

from __future__ import annotations

import json
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from packaging.version import Version

from python_plugins.tests.policy.bench import CREATED, Bench, sha, stamp
from tresor.bundle.manifest import dump_canonical
from tresor.policy import evaluate, versions
from tresor.policy.verdict import RED

_PEP440 = "1.0.dev1 1.0a1.dev1 1.0a1 1.0b2 1.0rc1 1.0 1.0+cpu 1.0.post1 1.0.1 1.2 1.10 2!0.1"
_DEB = "1.0~rc1-1 1.0-1 1.0-1+deb12u1 1.0-1.1 1.0-2 1.0a-1 1.0+git1-1 1.9-1 1.10-1 1:0.1-1"
_NPM = "1.0.0-alpha 1.0.0-alpha.1 1.0.0-alpha.beta 1.0.0-beta.2 1.0.0-beta.11 1.0.0 1.0.1 1.10.0"
PEP440, DEB, NPM = (list(pairwise(text.split())) for text in (_PEP440, _DEB, _NPM))


@pytest.mark.parametrize(("left", "right"), PEP440)
def test_python_versions_are_ordered(left: str, right: str) -> None:
    assert versions.pypi(left) < versions.pypi(right)
    assert Version(left) < Version(right)


@pytest.mark.parametrize(("left", "right"), DEB)
def test_debian_versions_are_ordered(left: str, right: str) -> None:
    assert versions.deb(left) < versions.deb(right)
    assert not versions.deb(right) < versions.deb(left)


@pytest.mark.parametrize(("left", "right"), NPM)
def test_npm_versions_are_ordered(left: str, right: str) -> None:
    assert versions.npm(left) < versions.npm(right)


def test_equal_spellings_are_equal() -> None:
    assert versions.pypi("1.0") == versions.pypi("v1.0.0")
    assert versions.deb("0:1.0-1") == versions.deb("1.0-1")


@pytest.mark.parametrize(
    ("version", "inside"),
    [("0.9", False), ("1.0", True), ("1.4", True), ("1.5", False), ("2.0", True), ("2.1", False)],
)
def test_ranges_of_osv(version: str, inside: bool) -> None:
    events = [
        {"introduced": "2.0"},
        {"last_affected": "2.0"},
        {"introduced": "1.0"},
        {"fixed": "1.5"},
    ]
    assert versions.in_range(version, list(events), versions.pypi) is inside
    assert versions.in_range(version, [{"introduced": "0"}], versions.pypi)


def record(**changes: Any) -> dict[str, Any]:
    found = {
        "id": "PYSEC-2026-1",
        "modified": stamp(CREATED),
        "published": stamp(CREATED - timedelta(days=60)),
        "affected": [
            {
                "package": {"ecosystem": "PyPI", "name": "Demo_App"},
                "ranges": [
                    {"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "1.1"}]}
                ],
            }
        ],
        "database_specific": {"severity": "HIGH"},
    }
    return {**found, **changes}


def advisory(bench: Bench, records: list[dict[str, Any]], **changes: Any) -> Bench:
    bill = dump_canonical(bench.bill())
    audited = [item["purl"] for item in bench.bill()["components"]]
    news = {
        "schema": "advisories/v1",
        "sbom_sha256": sha(bill),
        "date": stamp(CREATED),
        "audited": audited,
        "records": records,
        **changes,
    }
    found = Bench(bench.folder, parts={}, templates={}, installed=bill, evidence=False, scan=None)
    found.parts = {"news": ("advisories", {"advisories.json": json.dumps(news).encode()})}
    return found


def red(bench: Bench) -> list[str]:
    verdicts = bench.verdicts()
    assert evaluate.refusals(verdicts) == []
    return [item.thing for item in verdicts if item.severity == RED]


def test_news_about_an_installed_package_are_red(bench: Bench) -> None:
    assert red(advisory(bench, [record()])) == ["PYSEC-2026-1 pkg:pypi/demo-app@1.0"]


@pytest.mark.parametrize(
    "changes",
    [
        {"withdrawn": stamp(CREATED)},
        {"affected": [{"package": {"ecosystem": "npm", "name": "demo-app"}}]},
        {"affected": [{"package": {"ecosystem": "PyPI", "name": "other"}}]},
        {"affected": [{"package": {"ecosystem": "Hackage", "name": "demo-app"}}]},
        {"affected": [{"package": {"ecosystem": "PyPI", "name": "demo-app"}, "versions": ["0.9"]}]},
        {"database_specific": {"severity": "LOW"}},
    ],
)
def test_news_about_something_else_are_not(bench: Bench, changes: dict[str, Any]) -> None:
    assert red(advisory(bench, [record(**changes)])) == []


def test_version_that_cannot_be_ordered_concerns_the_package(bench: Bench) -> None:
    events = [{"introduced": "0"}, {"fixed": "next summer"}]
    affected = [
        {
            "package": {"purl": "pkg:pypi/demo-app"},
            "ranges": [{"type": "ECOSYSTEM", "events": events}],
        }
    ]
    assert red(advisory(bench, [record(affected=affected)])) != []


def test_debian_and_npm_packages_are_matched(bench: Bench) -> None:
    records = [
        record(
            id=name,
            affected=[
                {
                    "package": {"ecosystem": ecosystem, "name": package},
                    "ranges": [
                        {"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": fixed}]}
                    ],
                }
            ],
        )
        for name, ecosystem, package, fixed in (
            ("DSA-1", "Debian:12", "curl", "7.88-10"),
            ("GHSA-1", "npm", "demo", "1.0.1"),
        )
    ]
    assert [item.split()[0] for item in red(advisory(bench, records))] == ["DSA-1", "GHSA-1"]


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"sbom_sha256": "0" * 64}, "vulnerabilities.foreign"),
        ({"audited": []}, "vulnerabilities.coverage"),
        ({"date": stamp(CREATED - timedelta(days=30))}, "vulnerabilities.stale"),
        ({"schema": "x"}, "vulnerabilities.form"),
    ],
)
def test_empty_stale_or_foreign_news_are_refused(
    bench: Bench, changes: dict[str, Any], rule: str
) -> None:
    assert advisory(bench, [record()], **changes).refused() == [rule]


@pytest.mark.parametrize("records", [["x"], [{"id": "x", "affected": [{}]}]])
def test_malformed_records_are_refused(bench: Bench, records: list[Any]) -> None:
    assert advisory(bench, records).refused() == ["vulnerabilities.form"]


def test_news_without_an_installed_release_are_refused(bench: Bench) -> None:
    found = advisory(bench, [record()])
    found.installed = None
    assert found.refused() == ["sbom.installed"]


def test_advisories_beside_packages_are_no_way_around_the_gates(bench: Bench) -> None:
    kept = advisory(bench, [record()])
    kept.parts["wheels-app"] = bench.parts["wheels-app"]
    assert "sbom.missing" in kept.refused()
