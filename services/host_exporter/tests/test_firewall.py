"""Logged drops are counted by direction, from either format of ulogd."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.host_exporter.tests.support import scrape
from tresor_exporter.collectors.firewall import DIRECTIONS, FirewallCollector, parse_line
from tresor_exporter.schema import Firewall
from tresor_exporter.state import StateFile

LOGEMU = (
    "Nov 24 23:00:00 gpu1 drop:%s IN=site0 OUT= MAC=02:7e:50:01:00:03 SRC=198.51.100.50 "
    "DST=198.51.100.31 LEN=60 TOS=00 PREC=0x00 TTL=64 ID=1 DF PROTO=TCP SPT=1 DPT=9100\n"
)
JSON = '{"timestamp": "2026-11-24T23:00:00", "oob.prefix": "drop:%s", "src_ip": "198.51.100.50"}\n'


@pytest.mark.parametrize("form", [LOGEMU, JSON])
def test_drops_are_counted_by_direction(tmp_path: Path, form: str) -> None:
    log = tmp_path / "tresor-drops.log"
    log.touch()
    collector = FirewallCollector(Firewall(log), StateFile(tmp_path / "firewall.json"))
    scrape(collector)
    with log.open("a") as stream:
        stream.write(form % "in" + form % "in" + form % "out" + form % "forward" + "noise\n")
    assert scrape(collector) == {
        'tresor_firewall_logged_drops_total{direction="in"}': 2,
        'tresor_firewall_logged_drops_total{direction="out"}': 1,
        'tresor_firewall_logged_drops_total{direction="forward"}': 1,
        "tresor_firewall_log_lines_rejected_total": 1,
    }


@pytest.mark.parametrize("form", [LOGEMU, JSON])
def test_an_unknown_direction_is_no_label(form: str) -> None:
    assert parse_line((form % "sideways").encode()) is None


@given(st.binary(max_size=200) | st.text(max_size=99).map(lambda text: (JSON % text).encode()))
def test_no_bytes_make_the_parser_raise(raw: bytes) -> None:
    assert parse_line(raw) in (None, *DIRECTIONS)
