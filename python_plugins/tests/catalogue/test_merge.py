"""What a model of the catalogue gets where the site does not say how it is spread."""

from __future__ import annotations

from typing import Any

import pytest

from tresor.catalogue.merge import merge

from .conftest import read

EIGHT = {"gpus": list(range(8))}


@pytest.mark.parametrize(
    ("placements", "expected"),
    [
        ([EIGHT], {"tensor": 8, "pipeline": 1}),
        ([{**EIGHT, "nodes": 2}], {"tensor": 8, "pipeline": 2}),
        ([{**EIGHT, "nodes": 2}, EIGHT], {"tensor": 8, "pipeline": 1}),
        ([{**EIGHT, "nodes": "two"}], {"tensor": 8, "pipeline": 1}),
    ],
)
def test_stages_stand_on_a_host_each(
    placements: list[dict[str, Any]], expected: dict[str, int]
) -> None:
    entry = read("qwen3-coder-480b-a35b")
    model = {"name": "coder", "engine": {"device": "cuda"}, "placement": placements}

    found = merge(model, entry, entry["checkpoints"][0])

    assert found.model["parallelism"] == expected
