"""Formats of checkpoints: bits, scales, and the modules that stay in 16 bit."""

from __future__ import annotations

from typing import Any

import pytest

from tresor.sizing.errors import ModelError
from tresor.sizing.model import describe
from tresor.sizing.model.quantization import from_config, matches, named
from tresor.sizing.model.shape import ModelShape

from .helpers import config

LINEAR = 4 * (2 * 256 * 256 + 2 * 64 * 256 + 3 * 256 * 512)
ENDS = 2 * 1000 * 256 * 2


def linear_bytes(shape: ModelShape) -> float:
    return shape.bytes_by_kind["attention"] + shape.bytes_by_kind["mlp"]


@pytest.mark.parametrize(
    ("name", "bits"),
    [
        ("bf16", 16),
        ("fp16", 16),
        ("fp8", 8),
        ("awq_int4", 4 + 20 / 128),
        ("gptq_int4", 4 + 16 / 128),
        ("mxfp8", 8.25),
        ("nvfp4", 4.5),
    ],
)
def test_bits_per_weight_of_linear_layers(name: str, bits: float) -> None:
    # Scales of NVFP4 are padded to 128 rows; k and v have 64.
    assert linear_bytes(describe(config(), name)) == pytest.approx(LINEAR * bits / 8, rel=0.012)


@pytest.mark.parametrize("name", ["fp8", "awq_int4", "nvfp4", "int8_w8a8", "bitsandbytes"])
def test_embedding_and_head_stay_in_16_bit(name: str) -> None:
    sizes = describe(config(), name).bytes_by_kind
    assert sizes["embedding"] + sizes["lm_head"] == ENDS


def test_channel_scales_cost_four_bytes_per_output_feature() -> None:
    rows = 4 * (256 + 64 + 64 + 256 + 512 + 512 + 256)
    assert linear_bytes(describe(config(), "fp8_dynamic")) == LINEAR + 4 * rows


def test_mxfp4_quantizes_experts_only() -> None:
    moe = config(architectures=["MixtralForCausalLM"], num_local_experts=4, num_experts_per_tok=2)
    per_parameter = describe(moe, "mxfp4").bytes_per_parameter_by_kind
    assert per_parameter["expert"] == pytest.approx(4.25 / 8)
    assert per_parameter["attention"] == 2


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("lm_head", "lm_head", True),
        ("lm", "lm_head", False),
        ("mlp", "model.layers.0.mlp.up_proj", True),
        ("model.layers.1", "model.layers.10.mlp.up_proj", False),
        ("re:.*self_attn.*", "model.layers.0.self_attn.q_proj", True),
        ("re:self_attn", "model.layers.0.self_attn.q_proj", False),
        ("*.self_attn*", "model.layers.0.self_attn.q_proj", True),
        ("model.layers.0*", "model.layers.0.self_attn.q_proj", True),
    ],
)
def test_exclude_patterns(pattern: str, name: str, expected: bool) -> None:
    assert matches(pattern, name) is expected


def test_excluded_layers_stay_in_16_bit() -> None:
    block = {"quant_method": "fp8", "ignored_layers": ["model.layers.0.mlp", "model.layers.3"]}
    shape = describe(config(quantization_config=block))
    mlp, attention = 3 * 256 * 512, 2 * 256 * 256 + 2 * 64 * 256
    assert shape.bytes_by_kind["mlp"] == 2 * mlp * 2 + 2 * mlp
    assert shape.bytes_by_kind["attention"] == attention * 2 + 3 * attention
    assert len(shape.layers) == 3


def test_groups_of_one_checkpoint_may_have_different_formats() -> None:
    block: dict[str, Any] = {
        "quant_method": "compressed-tensors",
        "config_groups": {
            "a": {
                "targets": ["re:.*self_attn.*"],
                "weights": {"num_bits": 8, "type": "float", "strategy": "channel"},
            },
            "b": {
                "targets": ["Linear"],
                "weights": {
                    "num_bits": 4,
                    "type": "int",
                    "strategy": "group",
                    "group_size": 128,
                    "symmetric": True,
                },
            },
        },
        "ignore": ["lm_head"],
    }
    per_parameter = describe(config(quantization_config=block)).bytes_per_parameter_by_kind
    assert per_parameter["attention"] == pytest.approx(1 + 4 / 256, rel=0.01)
    assert per_parameter["mlp"] == pytest.approx((4 + 16 / 128) / 8)


@pytest.mark.parametrize(
    ("block", "name"),
    [
        ({"quant_method": "fp8", "activation_scheme": "static"}, "fp8"),
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, "fp8_block"),
        ({"quant_method": "gptq", "bits": 8, "group_size": -1}, "gptq_int8"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "bitsandbytes"),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, "nvfp4"),
        ({"quant_method": "modelopt", "quantization": {"quant_algo": "FP8"}}, "fp8"),
        ({"quant_method": "mxfp4"}, "mxfp4"),
    ],
)
def test_methods_of_checkpoints(block: dict[str, Any], name: str) -> None:
    assert from_config(block).name == name


@pytest.mark.parametrize(
    "block",
    [
        {"quant_method": "bitsandbytes"},
        {"quant_method": "bitsandbytes", "load_in_4bit": True, "load_in_8bit": True},
        {"quant_method": "compressed-tensors"},
        {"quant_method": "modelopt", "quant_algo": "W3A3"},
        {"quant_method": "fp8", "ignored_layers": "lm_head"},
    ],
)
def test_contradictory_method_is_refused(block: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match="quantization_config"):
        from_config(block)


def test_unknown_quantization_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ModelError, match=r"'int3'.*awq_int4"):
        named("int3")
