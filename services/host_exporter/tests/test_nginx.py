"""Requests are counted as NGINX logged them, each once, under known labels only."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.host_exporter.tests.support import failing_scrape, scrape
from tresor_exporter.collectors.nginx import NginxCollector, parse_line
from tresor_exporter.schema import Nginx
from tresor_exporter.state import StateFile

ENDPOINTS = {"/v1/models": "models", "/v1/chat/completions": "chat.completions"}


def line(path: object = "/v1/models", status: object = 200, seconds: object = 0.1) -> str:
    record = {"time": "2026-11-24T23:00:00+00:00", "remote": "198.51.100.140", "path": path}
    return json.dumps({**record, "status": status, "seconds": seconds, "agent": "x"}) + "\n"


class Place:
    """A log and a state that outlive collectors."""

    def __init__(self, folder: Path) -> None:
        self.log = folder / "tresor.json"
        self.state = folder / "nginx.json"

    def collector(self) -> NginxCollector:
        return NginxCollector(Nginx(self.log, ENDPOINTS), StateFile(self.state))

    def write(self, *lines: str) -> None:
        with self.log.open("a") as stream:
            stream.write("".join(lines))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    place = Place(tmp_path)
    place.log.touch()
    scrape(place.collector())  # the first start
    return place


def test_requests_are_counted_by_endpoint_and_status(place: Place) -> None:
    place.write(line(), line(status=401), line("/v1/chat/completions"), line("/etc/passwd", 404))
    found = scrape(place.collector())
    assert {key: value for key, value in found.items() if "requests_total" in key and value} == {
        'tresor_nginx_requests_total{endpoint="models",status="200"}': 1,
        'tresor_nginx_requests_total{endpoint="models",status="401"}': 1,
        'tresor_nginx_requests_total{endpoint="chat.completions",status="200"}': 1,
        'tresor_nginx_requests_total{endpoint="other",status="404"}': 1,
    }
    assert found["tresor_nginx_log_lines_rejected_total"] == 0


def test_the_first_server_error_is_a_step_from_zero(place: Place) -> None:
    """``rate()`` sees no step of a counter that appears with its first error."""
    before = scrape(place.collector())
    place.write(line(status=502))
    after = scrape(place.collector())
    key = 'tresor_nginx_requests_total{endpoint="models",status="502"}'
    assert (before[key], after[key]) == (0, 1)
    for endpoint in ("models", "chat.completions", "other"):
        for status in (200, 500, 502, 503, 504):
            name = f'tresor_nginx_requests_total{{endpoint="{endpoint}",status="{status}"}}'
            assert name in before


def test_durations_have_the_edges_of_service_levels(place: Place) -> None:
    place.write(*(line(seconds=seconds) for seconds in (0.5, 0.501, 3, 3.001)))
    found = scrape(place.collector())
    name = "tresor_nginx_request_duration_seconds"
    assert found[f'{name}_bucket{{endpoint="models",le="0.5"}}'] == 1
    assert found[f'{name}_bucket{{endpoint="models",le="3.0"}}'] == 3
    assert found[f'{name}_bucket{{endpoint="models",le="+Inf"}}'] == 4
    assert found[f'{name}_sum{{endpoint="models"}}'] == pytest.approx(7.002)


def test_a_fast_refusal_does_not_better_the_percentile(place: Place) -> None:
    place.write(line(status=401, seconds=0.001), line(status=503, seconds=2))
    found = scrape(place.collector())
    assert found['tresor_nginx_request_duration_seconds_count{endpoint="models"}'] == 1


def test_no_address_or_agent_gets_into_the_state(place: Place) -> None:
    place.write(line())
    scrape(place.collector())
    assert "198.51" not in place.state.read_text()


def test_a_restart_counts_on(place: Place) -> None:
    place.write(line())
    scrape(place.collector())
    place.write(line())  # while no exporter runs
    found = scrape(place.collector())
    assert found['tresor_nginx_requests_total{endpoint="models",status="200"}'] == 2
    assert found['tresor_nginx_request_duration_seconds_count{endpoint="models"}'] == 2


def test_a_crash_before_the_state_is_saved_counts_nothing_twice(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.write(line())

    def crash(self: StateFile, content: dict[str, Any]) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(StateFile, "save", crash)
        _, problem = failing_scrape(place.collector())
    assert "No space left" in problem
    found = scrape(place.collector())
    assert found['tresor_nginx_requests_total{endpoint="models",status="200"}'] == 1


def test_garbage_is_counted_as_rejected_and_stops_nothing(place: Place) -> None:
    place.write("\n", "{}\n", "[" * 50_000 + "\n", '{"path":"/"\n', line(status="200"), line())
    found = scrape(place.collector())
    assert found["tresor_nginx_log_lines_rejected_total"] == 5
    assert found['tresor_nginx_requests_total{endpoint="models",status="200"}'] == 1


def test_a_missing_log_fails_and_keeps_what_is_known(place: Place) -> None:
    place.write(line())
    collector = place.collector()
    scrape(collector)
    place.log.unlink()
    found, problem = failing_scrape(collector)
    assert found['tresor_nginx_requests_total{endpoint="models",status="200"}'] == 1
    assert "tresor.json" in problem
    assert "does its writer run" in problem


@pytest.mark.parametrize(
    "content",
    ["", "[]", '{"schema": "tresor-exporter-state/v1", "content": {"positions": 3}}'],
)
def test_a_broken_state_is_set_aside_and_counting_goes_on(place: Place, content: str) -> None:
    place.write(line())
    place.state.write_text(content)
    collector = place.collector()
    scrape(collector)
    assert place.state.with_suffix(".broken").read_text() == content
    place.write(line(status=500))
    found = scrape(collector)
    assert found['tresor_nginx_requests_total{endpoint="models",status="500"}'] == 1
    assert found['tresor_nginx_requests_total{endpoint="models",status="200"}'] == 0


def test_numbers_agree_while_the_log_is_written_and_rotated(place: Place) -> None:
    count, done = 3000, threading.Event()

    def write() -> None:
        stream = place.log.open("a", buffering=1)
        for number in range(count):
            stream.write(line())
            if number % 500 == 250:
                place.log.rename(place.log.with_name(f"tresor.json-{number:06}"))
                stream.write(line(status=500))  # to the old file, after the rename
                stream.close()
                stream = place.log.open("a", buffering=1)
        stream.close()
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    while not done.is_set():
        scrape(place.collector())  # a new process each time
    writer.join()
    found = scrape(place.collector())
    assert found['tresor_nginx_requests_total{endpoint="models",status="200"}'] == count
    assert found['tresor_nginx_requests_total{endpoint="models",status="500"}'] == 6


@given(st.binary(max_size=200))
def test_no_bytes_make_the_parser_raise(raw: bytes) -> None:
    assert parse_line(raw, ENDPOINTS) is None or raw.strip().startswith(b"{")


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(path=_JSON | st.sampled_from(sorted(ENDPOINTS)), status=_JSON, seconds=_JSON)
def test_labels_hold_only_known_endpoints_and_statuses(
    path: object, status: object, seconds: object
) -> None:
    found = parse_line(line(path, status, seconds).encode(), ENDPOINTS)
    if found is not None:
        assert found.endpoint in {*ENDPOINTS.values(), "other"}
        assert 100 <= found.status <= 599
        assert 0 <= found.seconds <= 1e9
