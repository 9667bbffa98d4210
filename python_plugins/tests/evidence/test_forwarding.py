"""A host's forwarding counts as proven only by acknowledged markers, its units and the kernel."""

from __future__ import annotations

import json
import subprocess
import syslog
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from python_plugins.tests.module_call import call, load
from tresor.evidence.forwarding import Observation, acknowledged, judge

UNITS = ("tresor-siem.service", "tresor-siem-reader.service")
BEFORE: dict[str, Any] = {
    "window": 128,
    "unproven_records": 100,
    "proven_records": 1000,
    "submitted": {"journal": 900, "audit": 200},
    "unreadable": {},
    "lost_journal_entries": 0,
}
AFTER: dict[str, Any] = BEFORE | {
    "unproven_records": 128,
    "proven_records": 1101,
    "submitted": {"journal": 1029, "audit": 200},
}
GOOD = Observation(
    host="gateway1",
    target="siem.company.example",
    units=dict.fromkeys(UNITS, "active"),
    before=BEFORE,
    after=AFTER,
    connection="198.51.100.130:2514",
    seconds=2.0,
)


def failing(seen: Observation) -> set[str]:
    return {check.id for check in judge(seen) if not check.ok}


def test_forwarding_that_works_passes_every_check() -> None:
    assert failing(GOOD) == set()
    assert all(check.id.startswith("siem.") for check in judge(GOOD))


@pytest.mark.parametrize(
    ("proven", "journal", "enough"),
    [
        (1101, 1029, True),
        (1100, 1029, False),  # only what waited before the marker
        (1000, 1029, False),
        (5000, 900, False),  # other sources alone: the marker never came in
        (3, 1029, False),  # the reader was started anew meanwhile
    ],
)
def test_only_what_follows_the_backlog_proves_the_marker(
    proven: int, journal: int, enough: bool
) -> None:
    after = AFTER | {"proven_records": proven, "submitted": {"journal": journal, "audit": 200}}
    assert acknowledged(BEFORE, after) is enough
    assert failing(replace(GOOD, after=after)) == (
        set() if enough else {"siem.acknowledged.gateway1"}
    )


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"units": {UNITS[0]: "failed", UNITS[1]: "active"}}, "units"),
        ({"connection": None}, "connection"),
        ({"after": AFTER | {"unproven_records": 257}}, "queue"),
        ({"after": AFTER | {"lost_journal_entries": 1}}, "complete"),
        ({"after": AFTER | {"unreadable": {"/var/log/x": "Permission denied"}}}, "complete"),
    ],
)
def test_each_fault_fails_its_check(change: dict[str, Any], name: str) -> None:
    assert failing(replace(GOOD, **change)) == {f"siem.{name}.gateway1"}


def test_queue_that_shrinks_may_still_be_long() -> None:
    before = BEFORE | {"unproven_records": 5000}
    after = AFTER | {"unproven_records": 4000, "proven_records": 9000}
    assert failing(replace(GOOD, before=before, after=after)) == set()


SS = "0 0 198.51.100.20:40000 {peer} timer:(keepalive,1min,0) uid:{uid} ino:77 sk:1 <->\n"


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Return a function that sets what ss prints."""

    def prepare(text: str) -> None:
        def run(argv: Sequence[str], **_: Any) -> subprocess.CompletedProcess[str]:
            assert argv[0] == "ss"
            return subprocess.CompletedProcess(argv, 0, text, "")

        monkeypatch.setattr(subprocess, "run", run)

    return prepare


@pytest.mark.parametrize(
    ("peer", "uid", "found"),
    [
        ("198.51.100.130:2514", 990, "198.51.100.130:2514"),
        ("[2001:db8:52::130]:2514", 990, "[2001:db8:52::130]:2514"),
        ("198.51.100.130:2514", 0, None),  # somebody else's connection
        ("198.51.100.130:2514", 9901, None),
        ("203.0.113.5:2514", 990, None),  # not the collector
    ],
)
def test_only_the_forwarders_connection_to_the_collector_counts(
    peer: str, uid: int, found: str | None, printed: Callable[[str], None]
) -> None:
    printed(SS.format(peer=peer, uid=uid))
    module = load("tresor_siem_check")
    assert module.connection(["198.51.100.130", "2001:db8:52::130"], 2514, 990) == found


def test_no_connection_at_all_is_none(printed: Callable[[str], None]) -> None:
    printed("")
    assert load("tresor_siem_check").connection(["198.51.100.130"], 2514, 990) is None


OPTIONS = {
    "host": "gateway1",
    "target": "siem.company.example",
    "addresses": ["198.51.100.130"],
    "port": 2514,
    "timeout": 1.2,
}


@pytest.fixture
def reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Return a function that sets the report before and after the markers; they are returned."""
    module = load("tresor_siem_check")
    path = tmp_path / "checkpoint.json"
    monkeypatch.setattr(module, "REPORT", path)
    monkeypatch.setattr(module, "USER", "root")
    monkeypatch.setattr(module, "states", lambda units: dict.fromkeys(units, "active"))
    monkeypatch.setattr(module, "connection", lambda *_: "198.51.100.130:2514")
    markers: list[str] = []
    monkeypatch.setattr(syslog, "openlog", lambda *_: None)

    def prepare(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
        path.write_text(json.dumps(before), encoding="utf-8")

        def write(_: int, text: str) -> None:
            if text.startswith("Invoked with"):  # Ansible's own line about the module
                return
            markers.append(text)
            if len(markers) == before["window"] + 1:
                path.write_text(json.dumps(after), encoding="utf-8")

        monkeypatch.setattr(syslog, "syslog", write)
        return markers

    return prepare


def test_module_writes_one_marker_more_than_may_be_unproven(
    reports: Callable[..., list[str]],
) -> None:
    markers = reports(BEFORE, AFTER)
    result = call("tresor_siem_check", **OPTIONS)
    assert [check["ok"] for check in result["checks"]] == [True] * 5
    assert len(markers) == BEFORE["window"] + 1
    assert {json.loads(text)["action"] for text in markers} == {"forwarding-marker"}


def test_module_fails_the_check_when_no_proof_comes(reports: Callable[..., list[str]]) -> None:
    reports(BEFORE, BEFORE | {"unproven_records": 229})
    result = call("tresor_siem_check", **OPTIONS)
    bad = [check["id"] for check in result["checks"] if not check["ok"]]
    assert bad == ["siem.acknowledged.gateway1"]
    assert result["msg"] == "4 of 5 checks of the forwarding hold"


@pytest.mark.parametrize("content", [None, "{", "{}"])
def test_module_without_a_report_says_so(
    content: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = load("tresor_siem_check")
    path = tmp_path / "checkpoint.json"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    monkeypatch.setattr(module, "REPORT", path)
    (check,) = call("tresor_siem_check", **OPTIONS)["checks"]
    assert not check["ok"]
    assert str(path) in check["observed"]
