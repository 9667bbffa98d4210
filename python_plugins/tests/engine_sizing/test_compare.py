"""How far a plan was off, and what follows."""

from __future__ import annotations

from typing import Any

import pytest

from tresor.engine_sizing.compare import Comparison, compare
from tresor.engine_sizing.observed import Observed

BOUNDS = {"warn_percent": 3.0, "fail_percent": 20.0}
PLAN = {"kv_cache_tokens": 46592, "available_kv_gib_per_gpu": 1.0, "weights_gib_per_gpu": 0.25}


def judged(observed: Observed, **plan: Any) -> Comparison:
    return compare({**PLAN, **plan}, observed, **BOUNDS)


def test_exact_prediction_is_ok() -> None:
    comparison = judged(Observed(kv_tokens=46592, kv_gib=1.0))

    assert (comparison.verdict, comparison.missing) == ("ok", ("weights_gib_per_gpu",))
    assert [one.error_percent for one in comparison.differences] == [0.0, 0.0]


@pytest.mark.parametrize(
    ("tokens", "verdict"),
    [
        (46592, "ok"),
        (45400, "ok"),
        (45200, "warn"),
        (48100, "warn"),
        (38000, "fail"),
        (70000, "fail"),
    ],
)
def test_error_in_either_direction_decides(tokens: int, verdict: str) -> None:
    assert judged(Observed(kv_tokens=tokens)).verdict == verdict


def test_error_is_positive_where_the_plan_promised_too_much() -> None:
    (difference,) = judged(Observed(kv_tokens=40000)).differences

    assert difference.error_percent == pytest.approx(16.48)


def test_worst_figure_decides() -> None:
    assert judged(Observed(kv_tokens=46592, weights_gib=0.5)).verdict == "fail"


def test_engine_that_tells_nothing_of_a_planned_cache_is_a_warning() -> None:
    comparison = judged(Observed())

    assert comparison.verdict == "warn"
    assert "not told by the engine: kv_cache_tokens" in comparison.says()


def test_embedding_model_without_a_cache_has_nothing_to_compare() -> None:
    comparison = judged(
        Observed(version="0.32.0"), kv_cache_tokens=None, available_kv_gib_per_gpu=None
    )

    assert comparison.verdict == "nothing_to_compare"


def test_sentence_names_both_figures() -> None:
    assert (
        judged(Observed(kv_tokens=40000))
        .says()
        .startswith("kv_cache_tokens: planned 46,592, the engine has 40,000 (+16.48 %)")
    )
