"""What an outage cost is computed from what users saw."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from lab.traffic import FILES, Outcome, lost_after, outage


def seen(start: float, end: float, *, good: bool = True, told: bool = False) -> Outcome:
    return Outcome(0, True, start, end, 200, good, told, "" if good or told else "reset")


def test_nothing_failed() -> None:
    found = outage([seen(0, 1), seen(9, 11), seen(12, 15)], 10)
    assert (found.requests, found.failed, found.recovery, found.slowest) == (2, 0, 0.0, 3)


def test_recovery_counts_to_the_first_request_after_the_last_bad_one() -> None:
    outcomes = [
        seen(9, 11, good=False),
        seen(11, 12),
        seen(12, 13, good=False),
        seen(14, 15),
        seen(16, 17),
    ]
    found = outage(outcomes, 10)
    assert (found.failed, found.recovery) == (2, 4)


def test_lost_requests_count_by_when_they_began() -> None:
    outcomes = [seen(9, 12, good=False), seen(10.5, 12, good=False), seen(11, 12), seen(13, 14)]
    assert (lost_after(outcomes, 8), lost_after(outcomes, 10), lost_after(outcomes, 11)) == (
        2,
        1,
        0,
    )


def test_what_never_recovers_is_without_end() -> None:
    assert outage([seen(9, 11), seen(12, 13, good=False)], 10).recovery == float("inf")


def test_traffic_that_stopped_says_nothing() -> None:
    with pytest.raises(ValueError, match="no request began after"):
        outage([seen(0, 11)], 10)


@pytest.mark.parametrize(
    ("outcome", "honest"),
    [
        (seen(0, 1), True),
        (seen(0, 1, good=False, told=True), True),
        (seen(0, 1, good=False), True),
        (Outcome(0, True, 0, 1, 200, whole=False, told=False, problem=""), False),
        (Outcome(0, False, 0, 1, 503, whole=False, told=False, problem=""), True),
    ],
)
def test_half_an_answer_must_say_so(outcome: Outcome, honest: bool) -> None:
    assert outcome.honest is honest


def test_users_report_that_nobody_answers() -> None:
    wanted = {
        "url": "https://127.0.0.1:1",
        "ca_file": None,
        "token": "none",
        "model": "none",
        "users": 2,
        "timeout": 1,
    }
    done = subprocess.run(
        [sys.executable, FILES / "company_traffic.py"],
        input=json.dumps(wanted) + "\n",
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    outcomes = [Outcome(**json.loads(line)) for line in done.stdout.splitlines()]
    assert {outcome.user for outcome in outcomes} == {0, 1}
    assert all(o.status == 0 and "refused" in o.problem for o in outcomes)
