"""The forwarder's queues, from lines as rsyslog writes them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.host_exporter.tests.support import failing_scrape, scrape
from tresor_exporter.collectors.siem import Forwarded, SiemCollector, parse_stats
from tresor_exporter.schema import Siem, SiemQueue
from tresor_exporter.state import StateFile


def stats(
    path: Path, *, processed: int, size: int, disk: int = 0, discarded: int = 0, down: bool = False
) -> None:
    """Append one interval of statistics."""
    entries: list[dict[str, Any]] = [
        {"name": "imjournal", "origin": "imjournal", "submitted": processed, "read": processed},
        {
            "name": "forward", "origin": "core.action", "processed": processed, "failed": 0,
            "suspended": int(down), "suspended.duration": 0, "resumed": 0,
        },
        {
            "name": "forward queue", "origin": "core.queue", "size": size, "enqueued": processed,
            "full": 0, "discarded.full": discarded, "discarded.nf": 0, "maxqsize": size,
        },
        {
            "name": "forward queue[DA]", "origin": "core.queue", "size": disk, "enqueued": disk,
            "full": 0, "discarded.full": 0, "discarded.nf": 0, "maxqsize": disk,
        },
    ]  # fmt: skip
    with path.open("a") as stream:
        for entry in entries:
            stream.write(f"Tue Nov 24 23:00:00 2026: {json.dumps(entry)}\n")


class Place:
    """Statistics and state."""

    def __init__(self, folder: Path) -> None:
        self.stats = folder / "stats.json"
        self.state = folder / "siem.json"
        self.config = Siem(
            stats=self.stats,
            queues=(
                SiemQueue("forward queue", "memory", 10_000),
                SiemQueue("forward queue[DA]", "disk", 1_000_000),
            ),
            action="forward",
            sources={"imjournal": "journal", "imfile": "files"},
            checkpoint=folder / "imjournal.state",
        )
        (folder / "imjournal.state").touch()

    def collector(self) -> SiemCollector:
        return SiemCollector(self.config, StateFile(self.state))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_queues_sources_and_times_are_told(place: Place, tmp_path: Path) -> None:
    stats(place.stats, processed=5, size=5)
    stats(place.stats, processed=100, size=20, disk=7, discarded=3)
    os.utime(place.stats, (1000, 1000))
    os.utime(tmp_path / "imjournal.state", (900, 900))
    assert scrape(place.collector()) == {
        "tresor_siem_stats_timestamp_seconds": 1000,
        "tresor_siem_checkpoint_timestamp_seconds": 900,
        'tresor_siem_queue_records{queue="memory"}': 20,
        'tresor_siem_queue_records{queue="disk"}': 7,
        'tresor_siem_queue_capacity_records{queue="memory"}': 10_000,
        'tresor_siem_queue_capacity_records{queue="disk"}': 1_000_000,
        'tresor_siem_discarded_total{queue="memory"}': 3,
        'tresor_siem_discarded_total{queue="disk"}': 0,
        "tresor_siem_suspended": 0,
        'tresor_siem_submitted_total{source="journal"}': 100,
        'tresor_siem_submitted_total{source="files"}': 0,
        "tresor_siem_forwarded_total": 70,
    }


def test_a_suspended_action_shows(place: Place) -> None:
    stats(place.stats, processed=1, size=1, down=True)
    assert scrape(place.collector())["tresor_siem_suspended"] == 1


def test_what_waited_on_disk_over_a_restart_of_rsyslog_is_counted_when_it_leaves(
    place: Place,
) -> None:
    stats(place.stats, processed=100, size=0, disk=40)
    assert scrape(place.collector())["tresor_siem_forwarded_total"] == 60
    stats(place.stats, processed=10, size=0, disk=50)  # began again, nothing left the host
    assert scrape(place.collector())["tresor_siem_forwarded_total"] == 60
    stats(place.stats, processed=10, size=0, disk=0)
    assert scrape(place.collector())["tresor_siem_forwarded_total"] == 110


def test_the_count_of_forwarded_records_never_falls(place: Place) -> None:
    stats(place.stats, processed=100, size=0)
    assert scrape(place.collector())["tresor_siem_forwarded_total"] == 100
    stats(place.stats, processed=100, size=5)
    assert scrape(place.collector())["tresor_siem_forwarded_total"] == 100


def test_a_missing_file_says_what_to_look_at(place: Place) -> None:
    _, problem = failing_scrape(place.collector())
    assert "stats.json: No such file" in problem
    assert "tresor-siem.service" in problem


def test_a_queue_that_rsyslog_does_not_have_fails_by_name(place: Place) -> None:
    place.stats.write_text('{"name": "main Q", "size": 0}\n')
    found, problem = failing_scrape(place.collector())
    assert "'forward queue'; there are: main Q" in problem
    assert "tresor_siem_stats_timestamp_seconds" in found


def test_only_the_end_of_a_large_file_is_read(place: Place) -> None:
    stats(place.stats, processed=1, size=0)
    with place.stats.open("a") as stream:
        stream.write("x" * 1_000_000 + "\n")
    stats(place.stats, processed=2, size=0)
    assert scrape(place.collector())["tresor_siem_forwarded_total"] == 2


@given(st.binary(max_size=300))
def test_no_bytes_make_the_parser_raise(raw: bytes) -> None:
    assert all(isinstance(name, str) for name in parse_stats(raw))


@given(st.lists(st.tuples(*[st.integers(0, 1000)] * 3), max_size=20))
def test_forwarded_is_a_counter_for_any_readings(readings: list[tuple[int, int, int]]) -> None:
    forwarded, before = Forwarded(), 0
    for reading in readings:
        forwarded.update(*reading)
        assert forwarded.total >= before
        before = forwarded.total
