"""Bill of materials, licences, vulnerability report, statements and waivers: every way to cheat."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from bundle.tests import makers
from python_plugins.tests.policy.bench import (
    CREATED,
    NOW,
    REASON,
    SITE,
    Bench,
    good_scan,
    sha,
    stamp,
)
from tresor.policy import evaluate, licences, rules
from tresor.policy.rules import Declarations, Waiver, parse_declarations, parse_site_rules
from tresor.policy.verdict import NOTE, RED, RefusalError

Bill = dict[str, Any]


def find(bill: Bill, name: str) -> dict[str, Any]:
    (found,) = [item for item in bill["components"] if item["name"] == name]
    component: dict[str, Any] = found
    return component


def drop(name: str) -> Callable[[Bill], None]:
    return lambda bill: bill["components"].remove(find(bill, name))


def put(name: str, **values: object) -> Callable[[Bill], None]:
    return lambda bill: find(bill, name).update(values)


def rename(bill: Bill) -> None:
    find(bill, "demo-app").update(name="harmless", purl="pkg:pypi/harmless@1.0")


def reversion(bill: Bill) -> None:
    find(bill, "demo-app").update(version="9.0", purl="pkg:pypi/demo-app@9.0")


def invent(bill: Bill) -> None:
    bill["components"].append(
        {"type": "library", "name": "ghost", "version": "1", "purl": "pkg:pypi/ghost@1"}
    )


def invent_place(bill: Bill) -> None:
    item = json.loads(json.dumps(find(bill, "demo-app")))
    item["properties"][0]["value"] = "wheels-app/ghost-1.0-py3-none-any.whl"
    bill["components"].append(item)


def same_place(bill: Bill) -> None:
    bill["components"].append(json.loads(json.dumps(find(bill, "demo-app"))))


def hide_in_model(bill: Bill) -> None:
    moved = find(bill, "demo-app")
    bill["components"].remove(moved)
    find(bill, "tiny")["components"].append(
        {key: moved[key] for key in ("hashes", "properties")} | {"type": "file", "name": "x"}
    )


def forget_file(bill: Bill) -> None:
    find(bill, "tiny")["components"].pop()


def library_in_model(bill: Bill) -> None:
    find(bill, "tiny")["components"][0]["type"] = "library"


BILLS: dict[str, tuple[Callable[[Bill], None], str]] = {
    "wheel missing": (drop("demo-app"), "sbom.missing"),
    "deb missing": (drop("curl"), "sbom.missing"),
    "npm missing": (drop("demo"), "sbom.missing"),
    "model missing": (drop("tiny"), "sbom.missing"),
    "own files missing": (drop("distribution"), "sbom.missing"),
    "file of a model missing": (forget_file, "sbom.missing"),
    "component that lies nowhere": (invent, "sbom.extra"),
    "place that is not carried": (invent_place, "sbom.extra"),
    "place named twice": (same_place, "sbom.twice"),
    "other name, whose vulnerabilities are others": (rename, "sbom.purl"),
    "other version": (reversion, "sbom.purl"),
    "purl of another kind": (put("demo-app", purl="pkg:npm/demo-app@1.0"), "sbom.purl"),
    "version only in the purl": (put("demo-app", version="2.0"), "sbom.purl"),
    "no purl": (put("curl", purl=""), "sbom.form"),
    "broken purl": (put("curl", purl="curl"), "sbom.purl"),
    "no version": (put("curl", purl="pkg:deb/debian/curl"), "sbom.purl"),
    "wheel hidden among a model's files": (hide_in_model, "sbom.purl"),
    "library inside a model": (library_in_model, "sbom.form"),
    "model that is no model": (put("tiny", type="library"), "sbom.purl"),
    "another digest": (
        put("demo-app", hashes=[{"alg": "SHA-256", "content": "0" * 64}]),
        "sbom.digest",
    ),
    "weak digest": (put("demo-app", hashes=[{"alg": "MD5", "content": "0" * 32}]), "sbom.form"),
    "two digests": (
        put("demo-app", hashes=[{"alg": "SHA-256", "content": c * 64} for c in "01"]),
        "sbom.form",
    ),
    "older format": (lambda bill: bill.update(specVersion="1.5"), "sbom.form"),
    "empty": (lambda bill: bill["components"].clear(), "sbom.missing"),
    "no list": (lambda bill: bill.update(components={}), "sbom.form"),
}


@pytest.mark.parametrize("name", sorted(BILLS))
def test_bill_of_materials_must_be_complete_and_true(bench: Bench, name: str) -> None:
    spoil, rule = BILLS[name]
    bench.bill_change = spoil
    bench.report_change = None
    assert rule in bench.refused()


def test_two_bills_are_refused(bench: Bench) -> None:
    bench.parts["more-sbom"] = ("sbom", {"sbom.cdx.json": b"{}"})
    assert "sbom.twice" in bench.refused()


# Licences

ACCEPTED = ["MIT", "MIT OR LicenseRef-x", "(MIT AND BSD-3-Clause) OR SSPL-1.0"]
ACCEPTED += ["Apache-2.0 WITH LLVM-exception", "GPL-2.0-only WITH Classpath-exception-2.0"]
REFUSED = ["SSPL-1.0", "MIT AND SSPL-1.0", "LicenseRef-Evil", "MIT WITH Evil-exception", "mit"]
REFUSED += ["(MIT OR SSPL-1.0) AND LicenseRef-Evil"]
BROKEN = [
    "",
    "MIT OR",
    "(MIT",
    "MIT)",
    "MIT MIT",
    "AND",
    "MIT WITH",
    "NOASSERTION?",
    "a/b",
    "(" * 500,
]


@pytest.mark.parametrize("text", ACCEPTED)
def test_accepted_expressions(bench: Bench, text: str) -> None:
    bench.bill_change = put("demo-app", licenses=[{"expression": text}])
    assert bench.refused() == []


@pytest.mark.parametrize("text", REFUSED)
def test_refused_expressions_name_the_component(bench: Bench, text: str) -> None:
    bench.bill_change = put("demo-app", licenses=[{"expression": text}])
    (found,) = evaluate.refusals(bench.verdicts())
    assert (found.rule, found.thing) == ("licences.refused", "pkg:pypi/demo-app@1.0")


@pytest.mark.parametrize("text", BROKEN)
def test_broken_expressions_are_no_licence(text: str) -> None:
    with pytest.raises((ValueError, RecursionError)):
        licences.judge(text, frozenset({"MIT"}))


@pytest.mark.parametrize(
    "value", [[], [{"license": {"name": "see file"}}], [{"expression": "NOASSERTION"}]]
)
def test_unknown_licence_is_refused(bench: Bench, value: object) -> None:
    bench.bill_change = put("demo-app", licenses=value)
    assert bench.refused()[0] in ("licences.unknown", "licences.refused")


def test_all_listed_licences_count(bench: Bench) -> None:
    both = [{"license": {"id": "MIT"}}, {"license": {"id": "SSPL-1.0"}}]
    bench.bill_change = put("demo-app", licenses=both)
    assert bench.refused() == ["licences.refused"]


def test_model_licence_counts_and_must_agree(bench: Bench) -> None:
    bench.licence = "LicenseRef-Research-Only"
    assert bench.refused() == ["licences.refused"]
    bench.licence = "Apache-2.0"
    bench.bill_change = put("tiny", licenses=[{"expression": "MIT"}])
    assert bench.refused() == ["licences.model"]


def test_declared_licence_is_shown_and_the_site_may_deny_it(bench: Bench) -> None:
    bench.licence = "LicenseRef-Community"
    bench.declared = Declarations(licences={"LicenseRef-Community": REASON})
    verdicts = bench.verdicts()
    assert evaluate.refusals(verdicts) == []
    assert [item.severity for item in verdicts if item.rule == "licences.declared"] == [NOTE]
    bench.rules = rules.SiteRules(licences_denied=frozenset({"LicenseRef-Community", "MIT"}))
    assert bench.refused() == ["licences.refused"]


# Vulnerability report

Change = Callable[[dict[str, Any]], dict[str, Any] | None]
URL = "pkg:pypi/demo-app@1.0"


def finding(**changes: object) -> dict[str, object]:
    found: dict[str, object] = {
        "id": "CVE-2026-1",
        "purl": URL,
        "severity": "high",
        "fixed": "1.1",
        "exploited": False,
        "published": stamp(NOW - timedelta(days=30)),
    }
    return {**found, **changes}


def setting(**values: object) -> Change:
    return lambda report: {**report, **values}


def with_finding(**changes: object) -> Change:
    return lambda report: {**report, "findings": [finding(**changes)]}


def aged(days: int) -> Change:
    date = {"name": "OSV", "date": stamp(CREATED - timedelta(days=days)), "sha256": "0"}
    return setting(database=date)


REPORTS: dict[str, tuple[Change, str]] = {
    "nothing audited, nothing found": (setting(audited=[]), "vulnerabilities.coverage"),
    "one package left out": (
        lambda report: {**report, "audited": report["audited"][1:]},
        "vulnerabilities.coverage",
    ),
    "other packages audited": (
        lambda report: {**report, "audited": [*report["audited"], "pkg:pypi/x@1"]},
        "vulnerabilities.coverage",
    ),
    "counts of nothing": (
        lambda report: {**report, "audited": [report["audited"][0]] * len(report["audited"])},
        "vulnerabilities.form",
    ),
    "report on another bill": (setting(sbom_sha256="0" * 64), "vulnerabilities.foreign"),
    "database of last month": (aged(30), "vulnerabilities.stale"),
    "database of tomorrow": (aged(-3), "vulnerabilities.time"),
    "no database": (setting(database=None, audited=[]), "vulnerabilities.no-database"),
    "no database, but a verdict": (setting(database=None), "vulnerabilities.form"),
    "database without a date": (setting(database={"sha256": "0"}), "vulnerabilities.form"),
    "other form": (setting(schema="vulnerability-report/v2"), "vulnerabilities.form"),
    "findings are no list": (setting(findings={}), "vulnerabilities.form"),
    "unknown severity": (with_finding(severity="none"), "vulnerabilities.form"),
    "no word on exploits": (with_finding(exploited="no"), "vulnerabilities.form"),
    "time without a zone": (with_finding(published="2026-01-01T00:00:00"), "vulnerabilities.form"),
    "published in the future": (
        with_finding(published=stamp(NOW + timedelta(days=400))),
        "vulnerabilities.open",
    ),
    "high with a fix": (with_finding(), "vulnerabilities.open"),
    "critical without a fix": (
        with_finding(severity="critical", fixed=None),
        "vulnerabilities.open",
    ),
    "exploited, though low": (with_finding(severity="low", exploited=True), "vulnerabilities.open"),
    "unrated with a fix": (with_finding(severity="unknown"), "vulnerabilities.open"),
}


@pytest.mark.parametrize("name", sorted(REPORTS))
def test_report_must_be_this_bundles_complete_and_current(bench: Bench, name: str) -> None:
    bench.report_change, rule = REPORTS[name]
    assert rule in bench.refused()


@pytest.mark.parametrize(
    "changes",
    [
        {"severity": "medium"},
        {"severity": "high", "fixed": None},
        {"published": stamp(NOW - timedelta(days=2))},
    ],
)
def test_findings_within_the_limits_are_notes(bench: Bench, changes: dict[str, object]) -> None:
    bench.report_change = with_finding(**changes)
    verdicts = bench.verdicts()
    assert evaluate.refusals(verdicts) == []
    assert [item.severity for item in verdicts if item.rule == "vulnerabilities.note"] == [NOTE]


def cyclone(**changes: Any) -> dict[str, Any]:
    row = {
        "id": "CVE-2026-1",
        "analysis": {
            "state": "not_affected",
            "justification": "code_not_reachable",
            "detail": "The function is never called by our service.",
        },
        "affects": [{"ref": URL}],
        "properties": [{"name": "tresor:expires", "value": stamp(NOW + timedelta(days=60))}],
        "ratings": [{"score": 9.8}],
    }
    return {"bomFormat": "CycloneDX", "specVersion": "1.6", "vulnerabilities": [{**row, **changes}]}


def openvex(**changes: Any) -> dict[str, Any]:
    row = {
        "vulnerability": {"name": "CVE-2026-1"},
        "products": [{"@id": URL}],
        "status": "not_affected",
        "justification": "vulnerable_code_not_in_execute_path",
        "impact_statement": "The function is never called by our service.",
        "status_notes": f"expires={stamp(NOW + timedelta(days=60))}",
    }
    return {"@context": "https://openvex.dev/ns/v0.2.0", "statements": [{**row, **changes}]}


@pytest.mark.parametrize("document", [cyclone(), openvex(), openvex(vulnerability="CVE-2026-1")])
def test_statement_with_reason_and_end_covers_a_finding(bench: Bench, document: Any) -> None:
    bench.report_change = with_finding()
    bench.vex = json.dumps(document).encode()
    assert bench.refused() == []


ANALYSIS = cyclone()["vulnerabilities"][0]["analysis"]
USELESS = {
    "another vulnerability": cyclone(id="CVE-2026-2"),
    "another package": cyclone(affects=[{"ref": "pkg:pypi/other@1.0"}]),
    "another version": cyclone(affects=[{"ref": "pkg:pypi/demo-app@1.1"}]),
    "affected": cyclone(analysis={**ANALYSIS, "state": "exploitable"}),
    "ended": cyclone(properties=[{"name": "tresor:expires", "value": stamp(NOW)}]),
    "ends in ten years": cyclone(
        properties=[{"name": "tresor:expires", "value": stamp(NOW + timedelta(days=3650))}]
    ),
    "openvex: under investigation": openvex(status="under_investigation"),
    "openvex: another package": openvex(products=[{"@id": "pkg:pypi/other@1.0"}]),
}


@pytest.mark.parametrize("name", sorted(USELESS))
def test_statement_about_something_else_does_not_cover(bench: Bench, name: str) -> None:
    bench.report_change = with_finding()
    bench.vex = json.dumps(USELESS[name]).encode()
    assert bench.refused() == ["vulnerabilities.open"]


INVALID = {
    "no justification": cyclone(analysis={"state": "not_affected", "detail": "x"}),
    "invented justification": cyclone(analysis={**ANALYSIS, "justification": "we_like_it"}),
    "no explanation": cyclone(
        analysis={"state": "not_affected", "justification": "code_not_reachable"}
    ),
    "no end": cyclone(properties=[]),
    "two ends": cyclone(properties=cyclone()["vulnerabilities"][0]["properties"] * 2),
    "end is no time": cyclone(properties=[{"name": "tresor:expires", "value": "never"}]),
    "all versions": cyclone(affects=[{"ref": "pkg:pypi/demo-app"}]),
    "no package": cyclone(affects=[{"ref": "everything"}]),
    "openvex: no justification": openvex(justification=None),
    "openvex: no statement": openvex(impact_statement=None),
    "openvex: no end": openvex(status_notes=""),
    "openvex: all versions": openvex(products=[{"@id": "pkg:pypi/demo-app"}]),
    "another format": {"statements": []},
    "a list": [],
}


@pytest.mark.parametrize("name", sorted(INVALID))
def test_statement_without_reason_or_end_refuses_the_bundle(bench: Bench, name: str) -> None:
    bench.report_change = with_finding()
    bench.vex = json.dumps(INVALID[name]).encode()
    assert bench.refused()[0].startswith("vex.")


# Waivers


def waiver(**changes: Any) -> Waiver:
    values = {
        "kind": "vulnerability-database",
        "site": SITE,
        "reason": REASON,
        "approved_by": "Ada",
        "expires": NOW + timedelta(days=30),
    }
    return Waiver(**{**values, **changes})


def waived(bench: Bench, *found: Waiver) -> list[str]:
    bench.report_change = setting(database=None, audited=[])
    bench.declared = Declarations(waivers=found)
    return bench.refused()


def test_waiver_shows_red(bench: Bench) -> None:
    assert waived(bench, waiver()) == []
    (red,) = [item for item in bench.verdicts() if item.severity == RED]
    assert "WAIVED until 2026-12-25" in red.seen
    assert "Ada" in red.seen


@pytest.mark.parametrize(
    "changes",
    [
        {"site": "bank-2"},
        {"site": SITE.upper()},
        {"expires": NOW},
        {"expires": NOW - timedelta(days=1)},
        {"expires": NOW + timedelta(days=93)},
        {"kind": "malware-scan"},
    ],
)
def test_waiver_of_another_site_kind_or_time_is_refused(
    bench: Bench, changes: dict[str, Any]
) -> None:
    assert waived(bench, waiver(**changes)) == ["vulnerabilities.no-database"]


def test_site_may_allow_no_waivers(bench: Bench) -> None:
    bench.rules = rules.SiteRules(waivers_allowed=False)
    assert waived(bench, waiver()) == ["vulnerabilities.no-database"]


def test_waiver_does_not_excuse_a_report_that_is_there(bench: Bench) -> None:
    bench.declared = Declarations(waivers=(waiver(),))
    bench.report_change = setting(audited=[])
    assert bench.refused() == ["vulnerabilities.coverage"]


# Declarations and rules as files

DECLARED = {
    "schema": "policy/v1",
    "allow": [{"rule": "wheels.plugin", "package": "x", "values": ["y"], "reason": REASON}],
    "waivers": [
        {
            "kind": "malware-scan",
            "site": "a",
            "reason": REASON,
            "approved_by": "b",
            "expires": stamp(NOW),
        }
    ],
    "licences": [{"licence": "LicenseRef-x", "reason": REASON}],
}


def test_declarations_are_read() -> None:
    found = parse_declarations(json.dumps(DECLARED).encode())
    assert found.allowed("wheels.plugin", "x") == {"y"}
    assert found.waivers[0].expires == NOW
    assert "LicenseRef-x" in found.licences


@pytest.mark.parametrize(
    "changes",
    [
        {"schema": "policy/v2"},
        {"more": 1},
        {"allow": [{"rule": "sbom.missing", "package": "x", "values": ["y"], "reason": REASON}]},
        {"allow": [{"rule": "wheels.plugin", "package": "x", "values": ["y"], "reason": "ok"}]},
        {"allow": [{"rule": "wheels.plugin", "package": "x", "values": "y", "reason": REASON}]},
        {"waivers": [{**DECLARED["waivers"][0], "site": "*"}]},  # type: ignore[dict-item]
        {"waivers": [{**DECLARED["waivers"][0], "kind": "licences"}]},  # type: ignore[dict-item]
        {"waivers": [{**DECLARED["waivers"][0], "reason": " " * 30}]},  # type: ignore[dict-item]
        {"licences": ["MIT"]},
    ],
)
def test_malformed_declarations_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(RefusalError):
        parse_declarations(json.dumps({**DECLARED, **changes}).encode())


def test_site_rules_are_read_strictly() -> None:
    found = parse_site_rules(b'{"licences_denied": ["X"], "database_max_days": 2}')
    assert found.licences_denied == {"X"}
    assert found.database_max_days == 2
    for raw in (b'{"x":1}', b"[]", b'{"database_max_days":"7"}', b'{"waivers_allowed":1}',
                b'{"model_formats":["pickle"]}', b'{"database_max_days":-1}'):  # fmt: skip
        with pytest.raises(RefusalError):
            parse_site_rules(raw)


# Malware scan


def scanned(bench: Bench, **changes: object) -> list[str]:
    report = json.loads(good_scan(bench.parts))
    report.update(changes)
    bench.scan = json.dumps(report).encode()
    return bench.refused()


APP = sha(makers.wheel("demo-app", "1.0", {"demo.py": b"1"})[1])


def test_scan_is_judged(bench: Bench) -> None:
    assert scanned(bench) == []
    hit = [{"sha256": APP, "reason": "Eicar-Test-Signature"}]
    assert scanned(bench, infected=hit) == ["malware.infected"]
    assert scanned(bench, failed=hit) == ["malware.failed"]
    assert scanned(bench, scanned=[]) == ["malware.coverage"]
    assert scanned(bench, self_test=False) == ["malware.self-test"]
    assert scanned(bench, self_test="yes") == ["malware.self-test"]
    assert scanned(bench, signatures=[]) == ["malware.form"]
    old = [{"name": "daily", "date": stamp(CREATED - timedelta(days=90)), "sha256": "0"}]
    assert scanned(bench, signatures=old) == ["malware.stale"]
    assert scanned(bench, schema="x") == ["malware.form"]


def test_missing_scan_needs_a_waiver(bench: Bench) -> None:
    bench.scan = None
    assert bench.refused() == ["malware.missing"]
    bench.declared = Declarations(waivers=(waiver(kind="malware-scan"),))
    assert bench.refused() == []
