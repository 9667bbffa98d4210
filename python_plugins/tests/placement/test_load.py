"""How many users an engine carries within the service level."""

from __future__ import annotations

from typing import Any

import pytest

from tresor.placement.load import MOST_USERS, Load, Targets, carried
from tresor.sizing.errors import SizingError

LOAD = Load(users=100, prompt_tokens=1000, output_tokens=200)
TARGETS = Targets(ttft_p95_ms=500, e2e_p95_ms=3000)


def linear(**keys: Any) -> dict[str, float]:
    """Two milliseconds to the first token for each user, and eleven for the whole answer."""
    users = keys["concurrency"]
    return {"ttft_p95_ms": 2.0 * users, "e2e_p95_ms": 100 + 11.0 * users}


def test_most_users_within_both_targets_are_found() -> None:
    found = carried({}, LOAD, TARGETS, linear)

    assert (found.users, found.ttft_p95_ms, found.e2e_p95_ms) == (250, 500.0, 2850.0)


def test_tighter_target_decides() -> None:
    assert carried({}, LOAD, Targets(500, 1200), linear).users == 100


def test_target_that_one_user_misses_is_named() -> None:
    found = carried({}, LOAD, Targets(1, 3000), linear)

    assert found.users == 0
    assert found.why == ("even one user alone: ttft_p95_ms would be 2, the service level says 1")


def test_search_ends_where_nothing_is_ever_missed() -> None:
    def instant(**_keys: Any) -> dict[str, float]:
        return {"ttft_p95_ms": 1.0, "e2e_p95_ms": 1.0}

    assert MOST_USERS - 1 <= carried({}, LOAD, TARGETS, instant).users <= MOST_USERS


def test_what_the_latency_model_refuses_is_told() -> None:
    def refuses(**_keys: Any) -> dict[str, float]:
        raise SizingError("no constants for this card")

    assert carried({}, LOAD, TARGETS, refuses).why == "no constants for this card"


@pytest.mark.parametrize("missing", [{}, {"ttft_p95_ms": 1.0}])
def test_answer_without_a_figure_is_no_pass(missing: dict[str, float]) -> None:
    assert carried({}, LOAD, TARGETS, lambda **_keys: missing).users == 0
