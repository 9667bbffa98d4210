"""The demo may only end well when everything it shows is good."""

from __future__ import annotations

from typing import Any

import pytest

from stages import demo, operate, screen
from stages.shell import StageError

GOOD: dict[str, Any] = {
    "lab": "tresor-abc123",
    "stage_seconds": {"boot": 4.0, "converge again": 45.0, "converge": 200.0},
    "total_seconds": 300.0,
    "boot_seconds": 2.0,
    "question": "Where is Lima?",
    "answer": "In Peru.",
    "answer_tokens": 4,
    "answer_events": 6,
    "tokens_per_second": 20.0,
    "first_token_seconds": 0.2,
    "request_id": "r-1",
    "verify": {"passed": 700, "failed": 0},
    "evidence": "/var/lib/tresor/evidence/1.json",
    "second_converge_changed": 0,
    "internet_packets": 0,
    "internet_packets_with_rules_flushed": 34,
}


def test_good_figures_pass() -> None:
    demo.judge(GOOD)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"answer": " "}, "expected a sentence"),
        ({"answer_tokens": 1}, "expected a sentence"),
        ({"answer_events": 1}, "expected a stream"),
        ({"second_converge_changed": 2}, "changed 2 things"),
        ({"verify": {"passed": 700, "failed": 1}}, "verify says"),
        ({"verify": {"passed": 0, "failed": 0}}, "verify says"),
        ({"internet_packets": 3}, "received 3 packets"),
        ({"internet_packets_with_rules_flushed": 0}, "proves nothing"),
    ],
)
def test_each_bad_figure_ends_the_demo(change: dict[str, Any], said: str) -> None:
    with pytest.raises(StageError, match=said):
        demo.judge(GOOD | change)


def test_change_on_one_host_is_refused_by_name() -> None:
    hosts = {"gpu1": {"changed": 1}, "gpu2": {"changed": 0}}
    with pytest.raises(StageError, match="gpu1"):
        operate.refuse_changes({"id": "r", "hosts": hosts}, "second converge")
    operate.refuse_changes({"id": "r", "hosts": {"gpu2": {"changed": 0}}}, "second converge")


def test_screen_shows_the_figures_and_a_missed_target() -> None:
    shown = screen.render(GOOD)
    assert "In Peru." in shown
    assert "700 passed, 0 failed" in shown
    assert "MISSED" not in shown
    late = GOOD | {"stage_seconds": {"boot": 15.5}}
    assert "MISSED" in screen.render(late)
