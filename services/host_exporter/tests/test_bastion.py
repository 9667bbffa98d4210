"""What only the bastion tells: its store and the evidence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from services.host_exporter.tests.support import failing_scrape, scrape
from tresor_exporter.collectors.store import StoreCollector
from tresor_exporter.collectors.verify import VerifyCollector
from tresor_exporter.schema import Store, Verify


def test_the_active_release_and_free_space_are_told(tmp_path: Path) -> None:
    (tmp_path / "current").symlink_to("releases/2026.11-7")
    found = scrape(StoreCollector(Store(tmp_path)))
    assert found['tresor_store_release_info{id="2026.11-7"}'] == 1
    assert found["tresor_store_free_bytes"] > 0


def test_without_an_active_release_the_space_is_still_told(tmp_path: Path) -> None:
    found, problem = failing_scrape(StoreCollector(Store(tmp_path)))
    assert list(found) == ["tresor_store_free_bytes"]
    assert "is a release activated?" in problem


def _report(failed: int, finished: str = "2026-11-24T23:00:00Z") -> str:
    return json.dumps({"finished": finished, "totals": {"failed": failed, "passed": 1}})


def test_time_and_failures_of_the_newest_verification_are_told(tmp_path: Path) -> None:
    first, second = tmp_path / "1.json", tmp_path / "2.json"
    first.write_text(_report(2))
    second.write_text(_report(0, "2026-11-24T23:00:01Z"))
    latest = tmp_path / "latest-full.json"
    latest.symlink_to(first.name)
    collector = VerifyCollector(Verify(latest))
    assert scrape(collector) == {
        "tresor_verify_finished_timestamp_seconds": 1795561200,
        "tresor_verify_failed_checks": 2,
    }
    latest.unlink()
    latest.symlink_to(second.name)
    assert scrape(collector) == {
        "tresor_verify_finished_timestamp_seconds": 1795561201,
        "tresor_verify_failed_checks": 0,
    }


def test_a_site_that_was_never_verified_shows_as_such(tmp_path: Path) -> None:
    found = scrape(VerifyCollector(Verify(tmp_path / "latest-full.json")))
    assert found == {"tresor_verify_finished_timestamp_seconds": 0}


@pytest.mark.parametrize("content", ["", "[]", '{"finished": "now"}', '{"finished": 3}'])
def test_a_file_that_is_no_report_fails(tmp_path: Path, content: str) -> None:
    path = tmp_path / "latest-full.json"
    path.write_text(content)
    found, problem = failing_scrape(VerifyCollector(Verify(path)))
    assert found == {}
    assert "is no evidence report" in problem
