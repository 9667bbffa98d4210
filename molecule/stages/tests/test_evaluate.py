"""The stage refuses results that cannot be right."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import yaml

from stages.evaluate import judge, with_float32
from stages.shell import StageError


def one(kv_tokens: int) -> dict[str, Any]:
    return {
        "own_tokens": 4000,
        "foreign_tokens": 40,
        "alone": {"first_token": {"p50": 0.1}, "whole_answer": {"p50": 0.9}},
        "at_once": {"output_tokens_per_second": 40.0},
        "memory": {"kv_tokens": kv_tokens},
    }


GOOD: dict[str, Any] = {
    "verdict": "cannot_tell",
    "bounds": {"tolerance": 0.05},
    "prompts": {"count": 100},
    "quality": {"difference": {"low": -0.1, "high": 0.1}, "reference_enough": True},
    "instances": {"reference": one(23296), "candidate": one(46592)},
}


def test_result_that_fits_together_is_taken() -> None:
    judge(GOOD)


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        (("verdict",), "good_enough", "the verdict is good_enough"),
        (("quality", "difference", "low"), -0.01, "the verdict is cannot_tell"),
        (("prompts", "count"), 60, "60 prompts, expected 100"),
        (("instances", "candidate", "memory", "kv_tokens"), 23296, "should hold half"),
        (("instances", "reference", "memory", "kv_tokens"), None, "should hold half"),
        (("instances", "reference", "foreign_tokens"), 500, "others took 500 tokens"),
        (("instances", "reference", "foreign_tokens"), -1, "others took -1 tokens"),
        (("instances", "reference", "alone", "first_token", "p50"), 0.9, "cannot be"),
        (("instances", "candidate", "at_once", "output_tokens_per_second"), 0, "no tokens"),
    ],
)
def test_result_that_cannot_be_right_is_refused(
    path: tuple[str, ...], value: object, says: str
) -> None:
    result = deepcopy(GOOD)
    part = result
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = value
    with pytest.raises(StageError, match=says):
        judge(result)


def test_second_precision_is_a_model_of_its_own() -> None:
    models = yaml.safe_load(with_float32())["tresor_models"]
    assert [model["engine"]["args"].get("dtype") for model in models] == [None, None, "float32"]
    assert len({model["name"] for model in models}) == 3
