"""How many users an engine carries within the service level."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from tresor.placement.load import MOST_USERS, ServiceModel, carried, loads_of
from tresor.sizing.errors import SizingError
from tresor.sizing.slo import Load, Promise
from tresor.sizing.slo.predict import Seen

from .conftest import seen

LOAD = loads_of({"load": [{"model": "a", "users": 9, "input_tokens": 9, "output_tokens": 9}]})["a"]
PROMISE = Promise(ttft_p95_ms=500, e2e_p95_ms=3000)


def asked(see: Any) -> ServiceModel:
    return ServiceModel(see, lambda *_any: {})


def linear(_keys: Mapping[str, Any], load: Load) -> Seen:
    """Two milliseconds to the first token for each user, and eleven for the whole answer."""
    return seen(2.0 * load.users, 100 + 11.0 * load.users)


def test_most_users_within_both_limits_and_the_margin_are_found() -> None:
    # 15 % to spare: 435 ms to the first token are 217 users, 2,609 ms in all 228.
    assert carried({}, LOAD, PROMISE, asked(linear)).users == 217


def test_tighter_limit_decides() -> None:
    assert carried({}, LOAD, Promise(500, 1265), asked(linear)).users == 90


def test_limit_that_one_user_misses_is_named() -> None:
    found = carried({}, LOAD, Promise(1, 3000), asked(linear))

    assert found.users == 0
    assert found.why.startswith("one user alone would see 2 ms to the first token and 111 ms")


def test_search_ends_where_nothing_is_ever_missed() -> None:
    found = carried({}, LOAD, PROMISE, asked(lambda _keys, _load: seen(1.0, 1.0)))

    assert MOST_USERS - 1 <= found.users <= MOST_USERS


def test_what_the_latency_model_refuses_is_told() -> None:
    def refuses(_keys: Mapping[str, Any], _load: Load) -> Seen:
        raise SizingError("no constants for this card")

    assert carried({}, LOAD, PROMISE, asked(refuses)).why == "no constants for this card"


def test_load_that_makes_no_sense_is_refused() -> None:
    entry = {"model": "a", "users": 1, "input_tokens": 9, "output_tokens": 9, "wait": 1}

    with pytest.raises(SizingError, match="wait"):
        loads_of({"load": [entry]})
