"""The forwarder's figures, from the reader's report and from lines as rsyslog writes them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.host_exporter.tests.support import failing_scrape, scrape
from tresor_exporter.collectors.siem import SiemCollector, parse_stats, spool_capacity
from tresor_exporter.schema import Siem

REPORT: dict[str, Any] = {
    "time": 1005.5, "covered_until": 900.25, "unproven_records": 40, "window": 128,
    "proven_records": 60, "submitted": {"journal": 70, "nginx": 30}, "spool_bytes": 1000,
    "spool_limit_bytes": 100_000, "connected": True, "blocked": None, "lost_journal_entries": 0,
    "unreadable": {},
}  # fmt: skip


class Place:
    """Report and statistics."""

    def __init__(self, folder: Path) -> None:
        self.report, self.stats = folder / "checkpoint.json", folder / "stats.json"
        self.tell()
        self.queue(size=7)

    def tell(self, **changes: object) -> None:
        self.report.write_text(json.dumps(REPORT | changes))

    def queue(self, *, size: int, full: int = 0, nf: int = 0) -> None:
        entries = [
            {"name": "siem", "origin": "other", "size": 999},
            {"name": "main Q", "origin": "core.queue", "size": 998, "enqueued": 1},
            {
                "name": "siem", "origin": "core.queue", "size": size, "enqueued": 100, "full": 0,
                "discarded.full": full, "discarded.nf": nf, "maxqsize": size,
            },
        ]  # fmt: skip
        with self.stats.open("a") as stream:
            for entry in entries:
                stream.write(f"Tue Nov 24 23:00:00 2026: {json.dumps(entry)}\n")
        os.utime(self.stats, (1000, 1000))

    def collector(self) -> SiemCollector:
        return SiemCollector(Siem(self.report, self.stats, "siem", 1024))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_spool_queue_sources_and_times_are_told(place: Place) -> None:
    place.queue(size=5, full=2, nf=1)
    place.tell(lost_journal_entries=4)
    assert scrape(place.collector()) == {
        "tresor_siem_stats_timestamp_seconds": 1000,
        "tresor_siem_checkpoint_timestamp_seconds": 900.25,
        "tresor_siem_suspended": 0,
        "tresor_siem_sources_waiting": 0,
        'tresor_siem_submitted_total{source="journal"}': 70,
        'tresor_siem_submitted_total{source="nginx"}': 30,
        "tresor_siem_forwarded_total": 60,
        'tresor_siem_queue_records{queue="spool"}': 40,
        'tresor_siem_queue_records{queue="wire"}': 5,
        'tresor_siem_queue_capacity_records{queue="spool"}': 4000,
        'tresor_siem_queue_capacity_records{queue="wire"}': 1024,
        'tresor_siem_discarded_total{queue="journal"}': 4,
        'tresor_siem_discarded_total{queue="wire"}': 3,
    }


def test_a_reader_that_is_silent_shows_though_rsyslog_speaks(place: Place) -> None:
    place.tell(time=500)
    assert scrape(place.collector())["tresor_siem_stats_timestamp_seconds"] == 500


def test_a_lost_connection_and_a_full_spool_show(place: Place) -> None:
    place.tell(connected=False, blocked="spool is full")
    found = scrape(place.collector())
    assert found["tresor_siem_suspended"] == 1
    assert found["tresor_siem_sources_waiting"] == 1


def test_statistics_hold_while_the_reader_has_just_emptied_the_file(place: Place) -> None:
    collector = place.collector()
    scrape(collector)
    place.stats.write_text("")
    assert scrape(collector)['tresor_siem_queue_records{queue="wire"}'] == 7


def test_only_the_end_of_a_large_file_is_read(place: Place) -> None:
    with place.stats.open("a") as stream:
        stream.write("x" * 1_000_000 + "\n")
    place.queue(size=3)
    assert scrape(place.collector())['tresor_siem_queue_records{queue="wire"}'] == 3


def test_missing_files_say_what_to_look_at(place: Place) -> None:
    place.stats.unlink()
    _, problem = failing_scrape(place.collector())
    assert "stats.json: No such file" in problem
    assert "tresor-siem.service" in problem
    place.report.unlink()
    _, problem = failing_scrape(place.collector())
    assert "checkpoint.json: No such file" in problem
    assert "tresor-siem-reader.service" in problem


def test_a_queue_that_rsyslog_does_not_have_fails_by_name_and_keeps_the_rest(place: Place) -> None:
    place.stats.write_text('{"name": "main Q", "origin": "core.queue", "size": 0}\n')
    found, problem = failing_scrape(place.collector())
    assert "'siem'; there are: main Q" in problem
    assert found["tresor_siem_forwarded_total"] == 60
    assert found['tresor_siem_queue_records{queue="spool"}'] == 40


@pytest.mark.parametrize(
    "changes",
    [
        {"time": "now"},
        {"proven_records": None},
        {"proven_records": -1},
        {"unproven_records": True},
        {"submitted": {"a user@example.com": 1}},
        {"submitted": {f"s{number}": 1 for number in range(33)}},
        {"submitted": 7},
    ],
)
def test_a_report_that_makes_no_sense_fails(place: Place, changes: dict[str, object]) -> None:
    place.tell(**changes)
    _, problem = failing_scrape(place.collector())
    assert "the forwarder says" in problem or "the reader's report" in problem


@pytest.mark.parametrize("text", ["", "[]", '{"time": 1'])
def test_a_file_that_is_no_report_fails(place: Place, text: str) -> None:
    place.report.write_text(text)
    _, problem = failing_scrape(place.collector())
    assert "is no report of the reader" in problem


@given(st.integers(0, 10**9), st.integers(0, 10**12), st.integers(0, 10**12))
def test_the_spool_s_fill_in_records_is_its_fill_in_bytes(
    waiting: int, used: int, limit: int
) -> None:
    capacity = spool_capacity(waiting, used, limit)
    assert capacity >= 1
    if waiting > 1000 and used > 0 and limit >= used:
        assert waiting / capacity == pytest.approx(used / limit, rel=0.01)


@given(st.binary(max_size=300))
def test_no_bytes_make_the_parser_raise(raw: bytes) -> None:
    assert all(isinstance(name, str) for name in parse_stats(raw))
