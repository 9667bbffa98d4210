"""A model may name an entry of the catalogue; what the site writes wins and is told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tresor.inventory.loader import load_inventory
from tresor.inventory.problems import InventoryError, Problem
from tresor.plan.resolve import check_plan, resolve

from .conftest import SCHEMAS

MODELS = "group_vars/all/models.yml"
Change = Callable[[str, str], None]


@pytest.fixture
def change(production: Path) -> Change:
    def replace(old: str, new: str) -> None:
        path = production / MODELS
        text = path.read_text(encoding="utf-8")
        assert old in text, f"{MODELS} does not hold {old!r}"
        path.write_text(text.replace(old, new, 1), encoding="utf-8")

    return replace


def plan(site: Path) -> dict[str, Any]:
    found = resolve(load_inventory(site, SCHEMAS))
    check_plan(found, SCHEMAS)
    inner: dict[str, Any] = found["tresor_plan"]
    return inner


def instance(found: dict[str, Any], name: str) -> dict[str, Any]:
    (one,) = [entry for entry in found["instances"] if entry["id"] == name]
    return dict(one)


def told(site: Path) -> tuple[Problem, ...]:
    with pytest.raises(InventoryError) as caught:
        load_inventory(site, SCHEMAS)
    return caught.value.problems


def test_entry_gives_what_the_model_leaves_out(production: Path) -> None:
    found = plan(production)
    engine = instance(found, "large-a-gpu1")

    assert engine["args"] == {
        "enable_auto_tool_choice": True,
        "tool_call_parser": "openai",
        "reasoning_parser": "openai_gptoss",
        "gpu_memory_utilization": 0.92,
        "max_num_seqs": 256,
        "enable_prefix_caching": True,
        "max_num_queued_reqs": 512,
        "max_model_len": 131072,
        "tensor_parallel_size": 4,
    }
    assert engine["task"] == "chat"
    sizing = found["sizing"]["instances"]
    assert sizing["small-gpu3"]["architecture"].endswith("Llama-3.1-8B-Instruct-FP8-dynamic")
    assert instance(found, "embed-gpu3")["task"] == "embedding"


def test_override_wins_and_is_told(production: Path, change: Change) -> None:
    change("checkpoint: fp8", "checkpoint: fp8\n    context_tokens: 16384")
    change("device: cuda, args: {}", "device: cuda, args: {max_num_seqs: 64}")

    found = plan(production)

    assert instance(found, "small-gpu3")["args"]["max_model_len"] == 16384
    assert instance(found, "small-gpu3")["args"]["max_num_seqs"] == 64
    (small,) = [model for model in found["models"] if model["name"] == "chat-small"]
    assert small["catalogue"] == {
        "entry": "llama-3.1-8b",
        "checkpoint": "RedHatAI/Meta-Llama-3.1-8B-Instruct-FP8-dynamic",
        "overrides": [
            "context_tokens: 16384 instead of 32768",
            "engine.args.max_num_seqs: 64 instead of 128",
        ],
    }
    note = "chat-small: not as the catalogue's llama-3.1-8b says: context_tokens: 16384 instead of"
    assert any(line.startswith(note) for line in load_inventory(production, SCHEMAS).capacity.notes)


def test_adapters_are_models_of_the_same_engines(production: Path, change: Change) -> None:
    lora = "lora:\n      - {name: claims, artefact: claims-adapter, rank: 16}\n    placement:"
    text = (production / MODELS).read_text(encoding="utf-8")
    start = text.index("placement:", text.index("chat-small"))
    (production / MODELS).write_text(
        text[:start] + lora + text[start + len("placement:") :], encoding="utf-8"
    )
    access = production / "group_vars/all/access.yml"
    access.write_text(
        access.read_text(encoding="utf-8").replace(
            "models: [chat-large, chat-small]", "models: [chat-large, chat-small, claims]"
        ),
        encoding="utf-8",
    )

    found = plan(production)

    (claims,) = [model for model in found["models"] if model["name"] == "claims"]
    assert claims == {
        "name": "claims",
        "aliases": [],
        "task": "chat",
        "instances": ["small-gpu3", "small-gpu4"],
        "adapter_of": "chat-small",
        "artefact": "claims-adapter",
    }
    assert instance(found, "small-gpu3")["lora"] == [
        {"name": "claims", "artefact": "claims-adapter", "rank": 16}
    ]
    assert "claims" in found["access"][0]["models"]
    change("name: claims, artefact", "name: fast, artefact")
    assert any("already a name of the model" in problem.wrong for problem in told(production))


def test_route_auto_follows_the_models_placed(production: Path, change: Change) -> None:
    assert plan(production)["routes"] == [
        {
            "name": "auto",
            "default": "chat-large",
            "rules": [
                {"model": "chat-large", "hints": ["tools"]},
                {"model": "chat-small", "max_characters": 2000},
            ],
        }
    ]
    change("aliases: [fast]", "aliases: [fast, auto]")
    assert plan(production)["routes"] == []


def test_fallback_is_the_placed_model_of_the_entry(production: Path, change: Change) -> None:
    assert all("fallback" not in model for model in plan(production)["models"])
    change("catalogue: llama-3.1-8b\n    checkpoint: fp8", "catalogue: gpt-oss-20b")

    models = {model["name"]: model for model in plan(production)["models"]}

    assert models["chat-large"]["fallback"] == "chat-small"
    assert models["chat-small"]["fallback"] == "chat-large"


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (
            ("catalogue: llama-3.1-8b", "catalogue: lama-3.1-8b"),
            (
                "tresor_models[1].catalogue",
                "unknown catalogue entry",
                "did you mean 'llama-3.1-8b'?",
            ),
        ),
        (
            ("checkpoint: fp8", "checkpoint: awq"),
            (
                "tresor_models[1].checkpoint",
                "the entry llama-3.1-8b has no such checkpoint",
                "write one of bf16, fp8",
            ),
        ),
        (
            ("catalogue: gpt-oss-120b", "catalogue: llama-4-scout"),
            (
                "tresor_models[0].licence_accepted",
                "the licence of llama-4-scout needs a decision: Meta grants no rights",
                "write licence_accepted: Llama 4 Community License",
            ),
        ),
        (
            ("checkpoint: fp8", "licence_accepted: MIT"),
            (
                "tresor_models[1].licence_accepted",
                "is not the licence of llama-3.1-8b",
                "write Llama 3.1 Community License, or remove it",
            ),
        ),
        (
            ("checkpoint: fp8", "speculative: recommended"),
            ("tresor_models[1].speculative", "the entry llama-3.1-8b recommends none", "remove it"),
        ),
        (
            ("catalogue: gpt-oss-120b", "catalogue: gpt-oss-120b\n    speculative: recommended"),
            (
                "tresor_models[0].speculative",
                "the draft nvidia/gpt-oss-120b-Eagle3-v2 must be an artefact of the bundle",
                "method: eagle3, tokens: 3",
            ),
        ),
        (
            ("checkpoint: fp8", "speculative: {method: mtpp, tokens: 1}"),
            (
                "tresor_models[1].speculative.method",
                "is no method of the supported versions",
                "did you mean 'mtp'?",
            ),
        ),
        (
            ("checkpoint: fp8", "speculative: {method: eagle3, tokens: 3}"),
            ("tresor_models[1].speculative.method", "none is named", "write the draft's artefact"),
        ),
        (
            ("checkpoint: fp8", "lora: [{name: claims, artefact: x, rank: 128}]"),
            (
                "tresor_models[1].lora[0].rank",
                "is above the rank that the catalogue plans with (64)",
                "write 64 or less",
            ),
        ),
        (
            (
                "catalogue: gpt-oss-120b",
                "catalogue: deepseek-v3.2\n    lora: [{name: c, artefact: x, rank: 8}]",
            ),
            (
                "tresor_models[0].lora",
                "the catalogue plans no adapters for deepseek-v3.2",
                "remove it",
            ),
        ),
        (
            ("max_num_queued_reqs: 512", "enable_lora: true"),
            (
                "tresor_models[0].engine.args.enable_lora",
                "has its own key",
                "write lora of the model",
            ),
        ),
        (
            ("max_num_queued_reqs: 512", "enable_auto_tool_choice: false"),
            (
                "tresor_models[0].engine.args.tool_call_parser",
                "is never asked without enable_auto_tool_choice",
                "remove the parser",
            ),
        ),
        (
            ("max_num_queued_reqs: 512", "trust_remote_code: true"),
            ("tresor_models[0].engine.args.trust_remote_code", "is refused", "remove it"),
        ),
    ],
)
def test_mistake_is_told_at_its_place(
    production: Path, change: Change, edit: tuple[str, str], expected: tuple[str, str, str]
) -> None:
    key, wrong, fix = expected
    change(*edit)
    found = [problem for problem in told(production) if problem.key == key]

    assert found, [str(problem) for problem in told(production)]
    assert found[0].file == MODELS
    assert wrong in found[0].wrong
    assert fix in found[0].fix


def test_licence_that_was_agreed_to_is_no_problem(production: Path, change: Change) -> None:
    agreed = "catalogue: llama-4-scout\n    licence_accepted: Llama 4 Community License"
    change("catalogue: gpt-oss-120b", agreed)

    assert plan(production)["models"][0]["catalogue"]["entry"] == "llama-4-scout"


def test_head_of_the_model_itself_may_be_recommended(production: Path, change: Change) -> None:
    change("catalogue: gpt-oss-120b", "catalogue: glm-4.5-air\n    speculative: recommended")

    found = plan(production)

    assert instance(found, "large-a-gpu1")["speculative"] == {"method": "mtp", "tokens": 1}
    assert any("memory of speculative decoding" in line for line in found["sizing"]["notes"])
