"""Weight bytes per rank: sharding, replication, padding, rounding."""

from __future__ import annotations

from typing import Any

import pytest

from tresor.sizing.memory.engine import engine_of
from tresor.sizing.memory.parallel import Layout, stage_layers, structural_problems
from tresor.sizing.memory.weights import allocated, stage_bytes
from tresor.sizing.model import describe

from .helpers import config

MIB = 1024 * 1024
ENGINE = engine_of("0.19.0")


def sizes(changes: dict[str, Any] | None = None, **layout: Any) -> tuple[int, ...]:
    # Without rotary tables and with sizes below 10 MiB only, bytes are exact.
    model = describe(config(max_position_embeddings=None, **(changes or {})))
    return stage_bytes(model, Layout(**layout), ENGINE)


ATTENTION = 2 * 256 * 256 + 2 * 64 * 256
MLP = 3 * 256 * 512
NORMS = 2 * 256


def test_one_rank_holds_everything() -> None:
    # The vocabulary of 1000 is padded to 1024.
    (found,) = sizes()
    assert found == 2 * (4 * (ATTENTION + MLP + NORMS) + 2 * 1024 * 256 + 256)


def test_tensor_parallelism_divides_linear_layers_and_vocabulary_but_not_norms() -> None:
    (found,) = sizes(tensor=2)
    assert found == 2 * (4 * (ATTENTION // 2 + MLP // 2 + NORMS) + 1024 * 256 + 256)


def test_key_value_heads_repeat_when_ranks_outnumber_them() -> None:
    (found,) = sizes(tensor=4)
    attention = 2 * 256 * 256 // 4 + 2 * 32 * 256
    assert found == 2 * (4 * (attention + MLP // 4 + NORMS) + 2 * 1024 * 256 // 4 + 256)


def test_stages_hold_their_layers_and_the_ends_what_belongs_there() -> None:
    layer = 2 * (ATTENTION + MLP + NORMS)
    first, last = sizes(pipeline=2)
    assert first == 2 * layer + 2 * 1024 * 256
    assert last == 2 * layer + 2 * 1024 * 256 + 2 * 256


def test_last_stage_loads_a_tied_head_for_itself() -> None:
    untied, tied = sizes(pipeline=2), sizes({"tie_word_embeddings": True}, pipeline=2)
    assert untied == tied
    assert sizes({"tie_word_embeddings": True})[0] < sizes()[0]


@pytest.mark.parametrize(
    ("layers", "stages", "expected"),
    [(8, 2, [4, 4]), (61, 8, [7, 7, 8, 8, 8, 8, 8, 7]), (7, 2, [4, 3]), (10, 4, [2, 3, 3, 2])],
)
def test_layers_that_do_not_divide_go_before_the_last_stage(
    layers: int, stages: int, expected: list[int]
) -> None:
    assert [end - first for first, end in stage_layers(layers, stages)] == expected


def moe(**layout: Any) -> int:
    model = describe(
        config(
            architectures=["MixtralForCausalLM"],
            num_local_experts=8,
            num_experts_per_tok=2,
            max_position_embeddings=None,
        )
    )
    return stage_bytes(model, Layout(**layout), ENGINE)[0]


def test_experts_stay_whole_under_expert_parallelism() -> None:
    # The same bytes either way: eight experts cut in two, or four whole ones.
    assert moe(tensor=2, expert=True) == moe(tensor=2)


def test_experts_are_shared_by_data_parallel_ranks() -> None:
    experts = 2 * 4 * 8 * MLP
    assert moe() - moe(data=2) == experts // 2
    assert moe(data=2, expert=True) == moe(data=2)


def test_latent_down_projections_are_not_divided() -> None:
    model = describe("deepseek-ai/DeepSeek-V2-Lite")
    one, two = (stage_bytes(model, Layout(size), ENGINE)[0] for size in (1, 2))
    replicated = 27 * 2048 * 576 * 2
    assert two - one / 2 > replicated / 2


def test_quantized_latent_projection_keeps_a_16_bit_copy() -> None:
    model = describe("deepseek-ai/DeepSeek-V3")
    total = sum(stage_bytes(model, Layout(8), ENGINE))
    copies = 61 * 128 * (128 + 128) * 512 * 2 // 8
    assert total > sum(model.bytes_by_kind.values()) / 8 + copies * 0.99


@pytest.mark.parametrize(
    ("size", "counted"),
    [
        (100, 512),
        (9 * MIB + 100, 9 * MIB + 512),
        (31 * MIB + MIB // 2, 32 * MIB),
        (64 * MIB, 64 * MIB),
        (64 * MIB + MIB // 2, 64 * MIB + MIB // 2),
    ],
)
def test_allocator_keeps_a_rest_of_at_most_one_mebibyte(size: int, counted: int) -> None:
    assert allocated(size, splits=True) == counted


def test_newer_engines_never_split_large_blocks() -> None:
    assert allocated(64 * MIB + MIB // 2, splits=False) == 66 * MIB


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (3, "does not divide the 8 attention heads"),
        (16, "does not divide the 8 attention heads"),
    ],
)
def test_heads_that_do_not_divide_are_named(tensor: int, message: str) -> None:
    assert any(message in one for one in structural_problems(describe(config()), Layout(tensor)))


def test_vocabulary_that_does_not_divide_is_named() -> None:
    odd = config(num_attention_heads=24, num_key_value_heads=24, vocab_size=32000)
    problems = structural_problems(describe(odd), Layout(24))
    assert any("padded vocabulary of 32000" in one for one in problems)


def test_quantization_groups_that_do_not_divide_are_named() -> None:
    model = describe(config(intermediate_size=640), "awq_int4")
    problems = structural_problems(model, Layout(2))
    assert any("quantization group of 128" in one for one in problems)


@pytest.mark.parametrize("tensor", [2, 4, 8])
def test_padded_experts_divide_in_any_way(tensor: int) -> None:
    assert structural_problems(describe("openai/gpt-oss-120b"), Layout(tensor)) == []


def test_quantization_blocks_that_do_not_divide_are_named() -> None:
    model = describe("Qwen/Qwen3-235B-A22B", "fp8_block")
    assert structural_problems(model, Layout(4)) == []
    assert any("block of 128" in one for one in structural_problems(model, Layout(8)))


def test_expert_parallelism_without_experts_is_named() -> None:
    problems = structural_problems(describe(config()), Layout(2, expert=True))
    assert problems == ["enable_expert_parallel needs a mixture of experts; this model has none"]


def test_more_stages_than_layers_are_named() -> None:
    problems = structural_problems(describe(config()), Layout(pipeline=5))
    assert problems == ["pipeline_parallel_size 5 is larger than the 4 layers"]
