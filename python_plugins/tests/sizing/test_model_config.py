"""Configs: what is missing, contradictory or unknown is refused by its name."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tresor.sizing.errors import ModelError, UnknownArchitectureError
from tresor.sizing.model import describe

from .helpers import config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": None}, "no hidden_size"),
        ({"vocab_size": None}, "no vocab_size"),
        ({"num_hidden_layers": None}, "no num_hidden_layers"),
        ({"hidden_size": "256"}, "hidden_size is '256'; expected a whole number"),
        ({"hidden_size": True}, "hidden_size is True"),
        ({"hidden_size": -1}, "hidden_size is -1"),
        ({"hidden_size": 1 << 40}, "hidden_size is 1099511627776"),
        ({"num_hidden_layers": 0}, "num_hidden_layers is 0"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers is 1000000000"),
        ({"num_key_value_heads": 3}, "not a multiple of num_key_value_heads 3"),
        ({"head_dim": None, "num_attention_heads": 6, "num_key_value_heads": 2}, "add head_dim"),
        ({"torch_dtype": "int3"}, "torch_dtype is 'int3'"),
        ({"tie_word_embeddings": "yes"}, "tie_word_embeddings is 'yes'"),
        ({"layer_types": ["full_attention"]}, "layer_types has 1 entries"),
        ({"layer_types": ["odd"] * 4}, "layer_types is 'odd'"),
        ({"architectures": []}, "architectures must be a list of names"),
        ({"quantization_config": "fp8"}, "quantization_config is 'fp8'"),
        ({"quantization_config": {"quant_method": "magic"}}, "quant_method 'magic'"),
        ({"quantization_config": {"quant_method": "awq", "bits": 3}}, "bits is 3"),
        (
            {"quantization_config": {"quant_method": "fp8", "weight_block_size": [64, 64]}},
            "weight_block_size is",
        ),
        (
            {
                "quantization_config": {
                    "quant_method": "compressed-tensors",
                    "config_groups": {"a": {"weights": {"num_bits": 8}}},
                    "ignore": ["re:("],
                }
            },
            "not a regular expression",
        ),
    ],
)
def test_wrong_field_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=re.escape(message)):
        describe(config(**changes))


def test_unknown_architecture_is_refused_with_its_name() -> None:
    with pytest.raises(UnknownArchitectureError, match="FrontierForCausalLM"):
        describe(config(architectures=["FrontierForCausalLM"]))


def test_config_without_architecture_is_read_by_its_model_type() -> None:
    assert describe(config(architectures=None)).architecture == "LlamaForCausalLM"


def test_experts_must_be_at_least_as_many_as_are_chosen() -> None:
    moe = config(architectures=["MixtralForCausalLM"], num_local_experts=2, num_experts_per_tok=4)
    with pytest.raises(ModelError, match="num_experts_per_tok 4 is larger than the 2 experts"):
        describe(moe)


def test_moe_architecture_without_experts_is_refused() -> None:
    with pytest.raises(ModelError, match="no num_experts"):
        describe(config(architectures=["MixtralForCausalLM"]))


def test_quantization_that_contradicts_the_checkpoint_is_refused() -> None:
    quantized = config(quantization_config={"quant_method": "awq", "bits": 4, "group_size": 128})
    with pytest.raises(ModelError, match="config says awq_int4; leave quantization out"):
        describe(quantized, "bf16")
    with pytest.raises(ModelError, match="config says awq_int4"):
        describe(quantized, "fp8")


@pytest.mark.parametrize("model", ["", "  ", 7, None, ["a"], "/no/such/directory", "./nothing"])
def test_model_of_no_known_kind_is_refused(model: Any) -> None:
    with pytest.raises(ModelError, match="model"):
        describe(model)


def test_config_that_json_cannot_hold_is_refused() -> None:
    with pytest.raises(ModelError, match="cannot be read"):
        describe({"hidden_size": object()})


def test_reduced_description_equals_the_full_config() -> None:
    numbers = config(architectures=None, model_type=None, torch_dtype=None)
    reduced = {"model_id": "example/small", "family": "dense_gqa", "config": numbers}
    assert describe(reduced).parameters_by_kind == describe(config()).parameters_by_kind
    assert describe(numbers).parameters_by_kind == describe(config()).parameters_by_kind


def test_reduced_description_of_an_unknown_family_is_refused() -> None:
    with pytest.raises(UnknownArchitectureError, match="family 'ring'"):
        describe({"model_id": "x", "family": "ring", "config": {"hidden_size": 8}})


def test_reduced_hybrid_counts_its_full_layers() -> None:
    numbers = config(
        architectures=None,
        model_type=None,
        sliding_window=128,
        full_attention_layers=2,
        norms=4,
    )
    shape = describe({"model_id": "example/w", "family": "swa_hybrid_dense", "config": numbers})
    assert {cache.label: count for cache, count in shape.caches} == {"sliding": 2, "full": 2}


def test_tied_embeddings_have_no_head() -> None:
    tied, untied = describe(config(tie_word_embeddings=True)), describe(config())
    assert untied.parameters - tied.parameters == 1000 * 256


def test_vision_tower_is_counted_with_its_text_model() -> None:
    text = config(architectures=["Gemma3ForCausalLM"], sliding_window=128)
    tower = {
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 128,
        "image_size": 56,
        "patch_size": 14,
    }
    whole = {
        "architectures": ["Gemma3ForConditionalGeneration"],
        "model_type": "gemma3",
        "text_config": text,
        "vision_config": tower,
        "mm_tokens_per_image": 4,
    }
    shape = describe(whole)
    assert shape.vision is not None
    assert shape.vision.patches_per_item == 16
    assert shape.parameters_by_kind["vision"] > 2 * (4 * 64 * 64 + 2 * 64 * 128)
    alone = describe(text).parameters_by_kind
    for kind in ("attention", "mlp", "embedding", "lm_head"):
        assert shape.parameters_by_kind[kind] == alone[kind]
