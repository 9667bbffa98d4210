"""The fault run fails for a record that is missing or altered, and for faults that did not bite."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from stages import siem
from stages.shell import StageError

RECEIVED = Path(siem.__file__).with_name("siem_files") / "received.py"
RUN = "s0123456789"
GOOD: dict[str, Any] = {
    "records": 20_000,
    "received": 20_000,
    "lost": 0,
    "doubles": 4766,
    "ids_that_differ": 0,
    "doubles_that_differ": 0,
    "broken": 0,
    "most_unproven": 9000,
    "disconnected_seen": True,
    "blocked_seen": ["the spool's disk is full"],
}


def test_good_figures_pass() -> None:
    siem.judge(GOOD)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"lost": 1}, "1 of 20000 records were lost"),
        ({"ids_that_differ": 1}, "1 doubles bear another event.id"),
        ({"doubles_that_differ": 2}, "2 bear the same with another content"),
        ({"broken": 3}, "3 records are broken"),
        ({"disconnected_seen": False}, "never said that it was not connected"),
        ({"most_unproven": 999}, "at most 999 records waited"),
        ({"blocked_seen": []}, "the disk was never full"),
    ],
)
def test_each_bad_figure_ends_the_run(change: dict[str, Any], said: str) -> None:
    with pytest.raises(StageError, match=said):
        siem.judge(GOOD | change)


def journal(number: int, name: str | None = None, text: str = " a record") -> dict[str, Any]:
    return {
        "event": {"id": name or f"journal-{number}", "dataset": "journal"},
        "service": {"name": "siem-load"},
        "message": f"{RUN}-{number}{text}",
    }


def audit(number: int, name: str | None = None) -> dict[str, Any]:
    return {
        "event": {"id": name or f"audit-{number}", "dataset": "tresor.audit"},
        "service": {"name": "tresor-gateway"},
        "tresor": {"audit": {"request_id": f"{RUN}-{number}"}},
    }


def count(folder: Path, *documents: dict[str, Any] | str, records: int = 4) -> dict[str, int]:
    """Return what received.py counts in a collector's file with these messages."""
    file = folder / "site.jsonl"
    messages = [json.dumps(item) if isinstance(item, dict) else item for item in documents]
    lines = [json.dumps({"from": "198.51.100.20", "raw": f"<134>1 {m}"}) for m in messages]
    file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    command = [sys.executable, str(RECEIVED), str(file), RUN, str(records)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    counted: dict[str, int] = json.loads(done.stdout)
    return counted


ALL = (journal(0), audit(1), journal(2), audit(3))
COMPLETE = {
    "received": 4,
    "lost": 0,
    "doubles": 0,
    "ids_that_differ": 0,
    "doubles_that_differ": 0,
    "broken": 0,
}


def test_complete_run_is_counted_as_such(tmp_path: Path) -> None:
    foreign = {**journal(7), "message": "s9999999999-7 of another run"}
    assert count(tmp_path, *ALL, foreign) == COMPLETE


def test_same_record_twice_is_a_double_and_no_fault(tmp_path: Path) -> None:
    assert count(tmp_path, *ALL, *ALL[:2]) == COMPLETE | {"doubles": 2}


@pytest.mark.parametrize(
    ("documents", "change"),
    [
        (ALL[:3], {"received": 3, "lost": 1}),
        ((*ALL, journal(0, "journal-x")), {"doubles": 1, "ids_that_differ": 1}),
        (
            (*ALL[:3], audit(3, "journal-0")),
            {"ids_that_differ": 1, "doubles_that_differ": 1},
        ),
        ((*ALL, journal(0, text=" altered")), {"doubles": 1, "doubles_that_differ": 1}),
        ((*ALL, f'{{"message": "{RUN}-0 cut'), {"broken": 1}),
        ((*ALL, audit(1) | {"tresor": {"audit": {"request_id": f"{RUN}-1x"}}}), {"broken": 1}),
    ],
    ids=["lost", "another-id", "id-of-another", "other-content", "cut", "strange-number"],
)
def test_each_fault_is_counted(
    documents: tuple[dict[str, Any] | str, ...], change: dict[str, int], tmp_path: Path
) -> None:
    counted = count(tmp_path, *documents)
    assert counted == COMPLETE | change
    with pytest.raises(StageError):
        siem.judge(GOOD | counted)


def test_every_fault_happens_in_the_outage_or_beside_it() -> None:
    moments = siem.schedule(30)
    assert [moment for moment, _ in moments] == sorted(moment for moment, _ in moments)
    when = {fault: moment for moment, fault in moments}
    assert when["collector back"] - when["collector away"] == 30
    inside = [
        fault
        for moment, fault in moments
        if when["collector away"] < moment < when["collector back"]
    ]
    assert {"kill rsyslog", "kill reader"} == set(inside)
