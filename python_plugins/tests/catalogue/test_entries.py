"""Every shipped entry is valid, and each of its layouts fits by the sizing: tested by plan."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from tresor.catalogue.entry import architecture_of, checkpoint_of, names
from tresor.catalogue.vllm_names import QUANTIZATIONS, REASONING_PARSERS, SOURCES, TOOL_PARSERS
from tresor.placement.predict import ASKED
from tresor.sizing import estimate
from tresor.sizing.gpu import find

from .conftest import SHIPPED, read

NAMES = names(SHIPPED)
ENTRIES = {name: read(name) for name in NAMES}
LAYOUTS = [(name, layout) for name in NAMES for layout in ENTRIES[name]["layouts"]]


def judged(entry: dict[str, Any], layout: dict[str, Any], version: str) -> dict[str, Any]:
    """Ask the sizing for a layout with the entry's own engine arguments."""
    checkpoint = checkpoint_of(entry, layout["checkpoint"])
    assert checkpoint is not None
    args = entry["engine"]["args"]
    card, nodes = find(layout["gpu"]), layout.get("nodes", 1)
    ranks = layout["tensor"] * layout["pipeline"]
    return estimate(
        model=architecture_of(checkpoint),
        gpu=card.name,
        tensor_parallel_size=layout["tensor"],
        pipeline_parallel_size=layout["pipeline"],
        max_model_len=entry["context_tokens"]["planned"],
        vllm_version=version,
        nodes=nodes,
        gpus_per_node=ranks // nodes,
        **{name: args[name] for name in ASKED if name in args},
    )


@pytest.mark.parametrize("version", sorted(SOURCES))
@pytest.mark.parametrize(
    ("name", "layout"),
    LAYOUTS,
    ids=[
        f"{name}-{one['gpu'].split()[0]}x{one['tensor']}-{one['checkpoint']}"
        for name, one in LAYOUTS
    ],
)
def test_layout_fits_with_its_concurrency(name: str, layout: dict[str, Any], version: str) -> None:
    found = judged(ENTRIES[name], layout, version)

    assert found["outcome"] == "fit", (found["fail_kind"], found["reasons"], found["advice"])
    if "concurrency" in layout:
        assert layout["concurrency"] <= found["max_concurrency"]
    else:
        assert not found["kv_cache_tokens"]


def test_layout_that_is_too_small_is_told_by_the_same_question() -> None:
    entry = ENTRIES["llama-3.3-70b"]
    layout = {"gpu": "L40S 48GB", "tensor": 1, "pipeline": 1, "checkpoint": "fp8"}

    assert judged(entry, layout, "0.33.0")["outcome"] == "no_fit"


def test_catalogue_covers_what_a_site_needs() -> None:
    kinds = Counter(entry["kind"] for entry in ENTRIES.values())
    classes = Counter(entry["class"] for entry in ENTRIES.values() if entry["kind"] == "chat")

    assert len(NAMES) >= 25
    assert all(kinds[kind] for kind in ("reasoning", "code", "vision", "embedding", "rerank"))
    assert kinds["guard"] >= 2
    assert all(classes[size] >= 3 for size in ("small", "medium", "large"))


def test_names_of_vllm_are_those_of_its_wheels() -> None:
    for entry in ENTRIES.values():
        args = entry["engine"]["args"]
        assert args.get("tool_call_parser", "hermes") in TOOL_PARSERS
        assert args.get("reasoning_parser", "qwen3") in REASONING_PARSERS
        methods = {one["quantization"] for one in entry["checkpoints"]} - {"none"}
        assert methods <= QUANTIZATIONS


def test_licence_that_excludes_the_eu_is_marked() -> None:
    excluded = {name for name, entry in ENTRIES.items() if not entry["eu"]["usable"]}

    assert excluded == {
        name
        for name, entry in ENTRIES.items()
        if entry["model"].startswith("meta-llama/Llama-4") or "Vision" in entry["model"]
    }
    assert "llama-4-scout" in excluded
