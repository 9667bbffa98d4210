"""Service levels: reachable or not, because ..., next best ..."""

from __future__ import annotations

from typing import Any

import pytest

from tresor.sizing.errors import SizingError
from tresor.sizing.latency import latency
from tresor.sizing.slo import Search, assess

SLO = {"ttft_p95_ms": 500, "e2e_p95_ms": 3000}
LARGE = {
    "model": "meta-llama/Llama-3.3-70B-Instruct",
    "quantization": "fp16",
    "gpu": "H100 SXM 80GB",
    "tensor_parallel_size": 4,
    "gpus_per_node": 4,
}
SMALL = {"model": "meta-llama/Llama-3.1-8B", "gpu": "H100 SXM 80GB", "quantization": "fp8"}
LOAD = {"users": 50, "input_tokens": 1000, "output_tokens": 200}


def test_large_model_in_16_bit_cannot_keep_three_seconds_and_what_can_is_named() -> None:
    found = assess(SLO, LOAD, LARGE)

    assert found["outcome"] == "not_reachable"
    assert "not reachable" in found["verdict"]
    assert "4x H100" in found["verdict"]
    assert "even one user alone" in found["because"][0]
    assert "more replicas do not help" in found["because"][0]
    assert "GiB of weights" in found["because"][1]
    keeping = [one for one in found["alternatives"] if one["reachable"]]
    assert any(one["model"] == LARGE["model"] for one in keeping)
    assert any(one["model"] != LARGE["model"] for one in keeping)


@pytest.mark.parametrize("users", [1, 50, 200])
def test_large_model_in_16_bit_misses_at_any_number_of_users(users: int) -> None:
    found = assess(SLO, {**LOAD, "users": users}, LARGE, Search(gpus=(), most_gpus=1))
    assert found["outcome"] == "not_reachable"


def test_alternatives_keep_the_promise_they_are_offered_for() -> None:
    for one in assess(SLO, LOAD, LARGE)["alternatives"]:
        assert one["reachable"]
        seen = latency(
            model=one["model"],
            quantization=one["quantization"],
            gpu=one["gpu"],
            tensor_parallel_size=one["tensor_parallel_size"],
            replicas=one["replicas"],
            input_tokens=LOAD["input_tokens"],
            output_tokens=LOAD["output_tokens"],
            concurrency=LOAD["users"],
        )
        assert seen["ttft_p95_ms"] <= SLO["ttft_p95_ms"]
        assert seen["e2e_p95_ms"] <= SLO["e2e_p95_ms"]
        assert one["gpus"] == one["tensor_parallel_size"] * one["replicas"]


def test_small_model_keeps_it_with_room_to_spare() -> None:
    found = assess(SLO, {**LOAD, "users": 10}, SMALL)
    assert found["outcome"] == "reachable"
    assert found["reachable"]
    assert found["alternatives"] == []
    assert found["e2e_p95_ms"] * 1.15 <= 3000


def test_what_holds_without_margin_is_not_called_reachable() -> None:
    seen = assess(SLO, {**LOAD, "users": 10}, SMALL)["e2e_p95_ms"]
    found = assess({**SLO, "e2e_p95_ms": seen * 1.05}, {**LOAD, "users": 10}, SMALL)
    assert found["outcome"] == "uncertain"
    assert not found["reachable"]
    assert "measure before promising" in found["because"][-1]


def test_too_many_users_are_the_reason_and_more_replicas_the_cure() -> None:
    found = assess(
        SLO, {**LOAD, "users": 600}, SMALL, Search(gpus=(), quantizations=(), smaller_models=())
    )
    assert found["outcome"] == "not_reachable"
    assert "one user alone would get it" in found["because"][0]
    best = found["alternatives"][0]
    assert best["reachable"]
    assert best["gpus"] > 1
    assert best["change"] == "the same model, format and card"


def test_queueing_users_are_named_with_the_slots() -> None:
    found = assess(SLO, {**LOAD, "users": 500}, {**SMALL, "max_num_seqs": 64}, Search(gpus=()))
    assert any("users wait for a slot" in reason for reason in found["because"])


def test_nothing_keeps_an_impossible_promise_and_the_nearest_comes_first() -> None:
    found = assess({"ttft_p95_ms": 1, "e2e_p95_ms": 2}, LOAD, SMALL)
    assert found["outcome"] == "not_reachable"
    assert found["alternatives"]
    assert not any(one["reachable"] for one in found["alternatives"])
    missed = [max(one["ttft_p95_ms"] / 1, one["e2e_p95_ms"] / 2) for one in found["alternatives"]]
    assert missed == sorted(missed)


def test_long_answers_and_prompts_count_at_the_percentile() -> None:
    mean = assess(SLO, {**LOAD, "users": 10}, SMALL)
    late = assess(
        SLO, {**LOAD, "users": 10, "output_tokens_p95": 800, "input_tokens_p95": 8000}, SMALL
    )
    assert late["e2e_p95_ms"] > 3.5 * mean["e2e_p95_ms"]
    assert late["ttft_p95_ms"] > mean["ttft_p95_ms"]


def test_people_who_read_before_they_ask_again_load_less() -> None:
    busy = assess(SLO, {**LOAD, "users": 200}, SMALL)
    reading = assess(SLO, {**LOAD, "users": 200, "think_seconds": 30}, SMALL)
    assert reading["users_inside"] < 40
    assert reading["e2e_p95_ms"] < busy["e2e_p95_ms"]
    seconds = reading["users_inside"] * 30 / (200 - reading["users_inside"])
    assert 0.5 < seconds / (reading["e2e_p95_ms"] / 1000) < 1.5


@pytest.mark.parametrize(
    ("slo", "load", "message"),
    [
        ({"ttft_p95_ms": 500}, LOAD, "e2e_p95_ms"),
        ({**SLO, "ttft_p95_ms": 0}, LOAD, "ttft_p95_ms: '0'"),
        (SLO, {**LOAD, "users": 1.5}, r"users: 1\.5"),
        (SLO, {**LOAD, "users": 0}, "users: '0'"),
        (SLO, {**LOAD, "colour": 1}, "colour: no such key"),
        (SLO, {**LOAD, "output_tokens_p95": 100}, "less than the mean 200"),
        (SLO, {**LOAD, "think_seconds": -1}, "think_seconds: '-1'"),
        (SLO, {"users": 5}, "input_tokens"),
    ],
)
def test_wrong_promise_or_load_is_named(
    slo: dict[str, Any], load: dict[str, Any], message: str
) -> None:
    with pytest.raises(SizingError, match=message):
        assess(slo, load, SMALL)


def test_deployment_that_does_not_fit_is_refused_with_a_cure() -> None:
    with pytest.raises(SizingError, match=r"does not fit on 1x H100.*What helps"):
        assess(SLO, LOAD, {**LARGE, "tensor_parallel_size": 1})
