"""Bundles of advisories: judged against what runs, kept as evidence, replacing nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest

from python_plugins.tests.bundle.complete import Complete, days
from python_plugins.tests.bundle.helpers import Site
from python_plugins.tests.policy.bench import SITE, Bench, sha
from python_plugins.tests.policy.test_advisories import advisory, record
from tresor.bundle import news, release, report
from tresor.bundle.errors import EnvironmentNotReadyError, RejectedError
from tresor.bundle.machine import locked, status

NOW = days(1)


def activate(site: Site, complete: Complete) -> Any:
    site.take(complete, site=SITE, now=NOW)
    for person in site.people:
        site.approve(person, now=NOW)
    return site.activate(NOW)


def with_news(complete: Complete, records: list[dict[str, Any]], **changes: object) -> None:
    """Make the medium one of advisories about what ``complete`` held."""
    kept = complete.bench
    found = advisory(kept, records, sbom_sha256=sha(installed(kept)))
    complete.bench = Bench(kept.folder, parts=found.parts, templates={}, evidence=False)
    complete.make(serial=2, id="2026.11-news-1", **changes)
    complete.bench = kept


def installed(bench: Bench) -> bytes:
    """The bill of materials as the release carries it."""
    return bench.documents()["policy-sbom"][1]["sbom.cdx.json"]


@pytest.fixture
def running(site: Site, complete: Complete) -> Site:
    complete.make()
    assert activate(site, complete).state == "ACTIVE"
    return site


def test_advisories_leave_the_running_release_alone(running: Site, complete: Complete) -> None:
    before = release.current_id(running.store)
    releases = status(running.store)["releases"]
    with_news(complete, [record()])
    outcome = activate(running, complete)
    assert (outcome.state, outcome.changed) == ("ADOPTED", True)
    assert "1 finding(s)" in outcome.message
    assert release.current_id(running.store) == before
    assert status(running.store)["releases"] == releases
    with locked(running.store):
        assert running.importer(NOW).verify_store() == []
    assert {"advisories.adopted", "advisories.finding"} <= set(running.events())
    assert "policy.waiver.used" not in running.events()


def test_what_was_said_is_kept_and_shown(running: Site, complete: Complete) -> None:
    with_news(complete, [record()])
    activate(running, complete)
    kept = status(running.store)["advisories"]
    assert isinstance(kept, dict)
    assert kept["judged"]["id"] == release.current_id(running.store)
    assert [item["thing"] for item in kept["findings"]] == ["PYSEC-2026-1 pkg:pypi/demo-app@1.0"]
    assert sorted(item["person"] for item in kept["approvals"]) == sorted(running.people)
    [content] = (running.store.news(kept["bundle_sha256"]) / "blobs").iterdir()
    assert json.loads(content.read_bytes())["records"][0]["id"] == "PYSEC-2026-1"


def test_approvers_see_news_and_no_removal(running: Site, complete: Complete) -> None:
    with_news(complete, [record()])
    running.take(complete, site=SITE, now=NOW)
    with locked(running.store):
        text = report.as_text(running.importer(NOW).review())
    assert "goes on running" in text
    assert "PYSEC-2026-1" in text
    assert "goes away" not in text


def test_the_same_advisories_twice_change_nothing(running: Site, complete: Complete) -> None:
    with_news(complete, [])
    assert activate(running, complete).changed
    again = running.take(complete, site=SITE, now=NOW)
    assert (again.state, again.changed) == ("ADOPTED", False)


def test_without_two_people_nothing_is_taken_in(running: Site, complete: Complete) -> None:
    with_news(complete, [record()])
    outcome = running.take(complete, site=SITE, now=NOW)
    running.approve(next(iter(running.people)), now=NOW)
    with pytest.raises(RejectedError, match="approval"):
        running.activate(NOW)
    assert not news.is_adopted(running.store, outcome.bundle)
    assert status(running.store)["advisories"] is None


def test_older_release_is_refused_behind_newer_advisories(
    running: Site, complete: Complete
) -> None:
    with_news(complete, [])
    activate(running, complete)
    complete.make(serial=1, id="2026.11-again")
    with pytest.raises(RejectedError, match=r"signature\.version"):
        running.take(complete, site=SITE, now=NOW)


def test_shortened_bill_of_what_runs_is_noticed(running: Site, complete: Complete) -> None:
    path = running.store.current / "tree" / "policy-sbom" / "sbom.cdx.json"
    bill = json.loads(path.read_bytes())
    bill["components"].pop()
    path.unlink()
    path.write_text(json.dumps(bill), encoding="utf-8")
    with_news(complete, [record()])
    with pytest.raises(EnvironmentNotReadyError, match="not the one that was imported"):
        running.take(complete, site=SITE, now=NOW)
