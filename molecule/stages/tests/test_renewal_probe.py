"""What the renewal's user counts as a gap."""

from __future__ import annotations

from stages.renewal import Probe


def probe(*attempts: tuple[bool, float]) -> Probe:
    found = Probe(last_good=0.0)
    for good, now in attempts:
        found.note(good=good, now=now)
    return found


def test_a_refused_attempt_makes_the_time_around_it_a_gap() -> None:
    assert probe((True, 1), (False, 2), (False, 3), (True, 5)).worst(6) == 4


def test_a_slow_user_is_no_gap() -> None:
    assert probe((True, 1), (True, 20)).worst(21) == 0


def test_a_gap_that_lasts_and_a_user_who_never_got_an_answer_count() -> None:
    assert probe((True, 1), (False, 2)).worst(30) == 29
    assert probe().worst(30) == 30
