"""Configs as publishers wrote them, with what they leave out, against the parameters they state."""

from __future__ import annotations

from typing import Any

import pytest

from tresor.sizing import estimate
from tresor.sizing.errors import ModelError, UnknownArchitectureError
from tresor.sizing.model import describe
from tresor.sizing.model.shape import State

# Gemma names neither heads nor vocabulary of its language model, Pixtral no size of its tower,
# LLaVA hardly anything: those are defaults of Hugging Face's classes.
GEMMA_3_4B = {
    "architectures": ["Gemma3ForConditionalGeneration"],
    "model_type": "gemma3",
    "mm_tokens_per_image": 256,
    "text_config": {
        "hidden_size": 2560,
        "intermediate_size": 10240,
        "model_type": "gemma3_text",
        "num_hidden_layers": 34,
        "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
        "sliding_window": 1024,
    },
    "vision_config": {
        "hidden_size": 1152,
        "image_size": 896,
        "intermediate_size": 4304,
        "model_type": "siglip_vision_model",
        "num_attention_heads": 16,
        "num_hidden_layers": 27,
        "patch_size": 14,
    },
}
PIXTRAL_12B = {
    "architectures": ["LlavaForConditionalGeneration"],
    "model_type": "llava",
    "image_seq_length": 1,
    "text_config": {
        "head_dim": 128,
        "hidden_size": 5120,
        "intermediate_size": 14336,
        "max_position_embeddings": 1024000,
        "model_type": "mistral",
        "num_hidden_layers": 40,
        "num_key_value_heads": 8,
        "sliding_window": None,
        "vocab_size": 131072,
    },
    "vision_config": {"head_dim": 64, "image_size": 1024, "model_type": "pixtral"},
}
LLAVA_7B = {
    "architectures": ["LlavaForConditionalGeneration"],
    "model_type": "llava",
    "text_config": {
        "architectures": ["LlamaForCausalLM"],
        "max_position_embeddings": 4096,
        "model_type": "llama",
        "torch_dtype": "float16",
        "vocab_size": 32064,
    },
    "vision_config": {
        "hidden_size": 1024,
        "image_size": 336,
        "intermediate_size": 4096,
        "model_type": "clip_vision_model",
        "num_attention_heads": 16,
        "num_hidden_layers": 24,
        "patch_size": 14,
    },
}
GLM_4_1V_9B = {
    "architectures": ["Glm4vForConditionalGeneration"],
    "model_type": "glm4v",
    "text_config": {
        "attention_bias": True,
        "head_dim": 128,
        "hidden_size": 4096,
        "intermediate_size": 13696,
        "max_position_embeddings": 65536,
        "model_type": "glm4v_text",
        "num_attention_heads": 32,
        "num_hidden_layers": 40,
        "num_key_value_heads": 2,
        "tie_word_embeddings": False,
        "vocab_size": 151552,
    },
    "vision_config": {
        "depth": 24,
        "hidden_size": 1536,
        "image_size": 336,
        "intermediate_size": 13696,
        "num_heads": 12,
        "out_hidden_size": 4096,
        "patch_size": 14,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
    },
}
INTERNVL3_8B = {
    "architectures": ["InternVLForConditionalGeneration"],
    "model_type": "internvl",
    "text_config": {
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "max_position_embeddings": 32768,
        "model_type": "qwen2",
        "num_attention_heads": 28,
        "num_hidden_layers": 28,
        "num_key_value_heads": 4,
        "tie_word_embeddings": False,
        "vocab_size": 151674,
    },
    "vision_config": {
        "hidden_size": 1024,
        "image_size": [448, 448],
        "intermediate_size": 4096,
        "model_type": "internvl_vision",
        "num_attention_heads": 16,
        "num_hidden_layers": 24,
        "patch_size": [14, 14],
    },
}
MINIMAX_M1 = {
    "architectures": ["MiniMaxM1ForCausalLM"],
    "model_type": "minimax_m1",
    "attn_type_list": [0, 0, 0, 0, 0, 0, 0, 1] * 10,
    "head_dim": 128,
    "hidden_size": 6144,
    "intermediate_size": 9216,
    "max_position_embeddings": 10240000,
    "num_attention_heads": 64,
    "num_experts_per_tok": 2,
    "num_hidden_layers": 80,
    "num_key_value_heads": 8,
    "num_local_experts": 32,
    "shared_intermediate_size": 0,
    "tie_word_embeddings": False,
    "vocab_size": 200064,
}
NEMOTRON_3_SUPER = {
    "architectures": ["NemotronHForCausalLM"],
    "model_type": "nemotron_h",
    "conv_kernel": 4,
    "head_dim": 128,
    "hidden_size": 4096,
    "hybrid_override_pattern": "MEMEMEM*EMEMEMEM*EMEMEMEM*EMEMEMEMEM*EMEMEMEMEM*EMEMEMEMEM*"
    "EMEMEMEMEM*EMEMEMEM*EMEMEMEME",
    "mamba_head_dim": 64,
    "mamba_num_heads": 128,
    "max_position_embeddings": 262144,
    "moe_intermediate_size": 2688,
    "moe_latent_size": 1024,
    "moe_shared_expert_intermediate_size": 5376,
    "n_groups": 8,
    "n_routed_experts": 512,
    "n_shared_experts": 1,
    "num_attention_heads": 32,
    "num_experts_per_tok": 22,
    "num_hidden_layers": 88,
    "num_key_value_heads": 2,
    "ssm_state_size": 128,
    "tie_word_embeddings": False,
    "vocab_size": 131072,
}
HUNYUAN_A13B = {
    "architectures": ["HunYuanMoEV1ForCausalLM"],
    "hidden_size": 4096,
    "head_dim": 128,
    "intermediate_size": 3072,
    "max_position_embeddings": 32768,
    "moe_intermediate_size": [3072] * 32,
    "moe_topk": [8] * 32,
    "num_attention_heads": 32,
    "num_experts": 64,
    "num_hidden_layers": 32,
    "num_key_value_heads": 8,
    "num_shared_expert": [1] * 32,
    "vocab_size": 128167,
}
DOTS_LLM1 = {
    "architectures": ["Dots1ForCausalLM"],
    "first_k_dense_replace": 1,
    "hidden_size": 4096,
    "intermediate_size": 10944,
    "max_position_embeddings": 32768,
    "moe_intermediate_size": 1408,
    "n_routed_experts": 128,
    "n_shared_experts": 2,
    "num_attention_heads": 32,
    "num_experts_per_tok": 6,
    "num_hidden_layers": 62,
    "num_key_value_heads": 32,
    "tie_word_embeddings": False,
    "vocab_size": 152064,
}
GTE_MULTILINGUAL = {
    "architectures": ["NewModel"],
    "model_type": "new",
    "hidden_size": 768,
    "intermediate_size": 3072,
    "max_position_embeddings": 8192,
    "num_attention_heads": 12,
    "num_hidden_layers": 12,
    "type_vocab_size": 1,
    "vocab_size": 250048,
}
NOMIC_EMBED = {
    "architectures": ["NomicBertModel"],
    "model_type": "nomic_bert",
    "n_embd": 768,
    "n_head": 12,
    "n_inner": 3072,
    "n_layer": 12,
    "n_positions": 8192,
    "type_vocab_size": 2,
    "vocab_size": 30528,
}
AFM_4_5B = {
    "architectures": ["ArceeForCausalLM"],
    "head_dim": 128,
    "hidden_size": 2560,
    "intermediate_size": 18432,
    "max_position_embeddings": 65536,
    "num_attention_heads": 20,
    "num_hidden_layers": 36,
    "num_key_value_heads": 4,
    "tie_word_embeddings": False,
    "vocab_size": 128004,
}
OLMO_7B = {
    "architectures": ["OlmoForCausalLM"],
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "max_position_embeddings": 2048,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 32,
    "tie_word_embeddings": False,
    "vocab_size": 50304,
}


@pytest.mark.parametrize(
    ("published", "parameters"),
    [
        (GEMMA_3_4B, 4.300e9),
        (PIXTRAL_12B, 12.68e9),
        (LLAVA_7B, 7.063e9),
        (GLM_4_1V_9B, 10.29e9),
        (INTERNVL3_8B, 7.94e9),
        (MINIMAX_M1, 456.09e9),
        (NEMOTRON_3_SUPER, 120.7e9),
        (HUNYUAN_A13B, 80.39e9),
        (DOTS_LLM1, 142.8e9),
        (GTE_MULTILINGUAL, 305.4e6),
        (NOMIC_EMBED, 136.7e6),
        (AFM_4_5B, 4.62e9),
        (OLMO_7B, 6.888e9),
    ],
)
def test_parameters_are_those_that_the_publisher_states(
    published: dict[str, Any], parameters: float
) -> None:
    assert describe(published).parameters == pytest.approx(parameters, rel=1e-3)


def test_defaults_complete_nested_configs_only() -> None:
    alone = {**GEMMA_3_4B["text_config"], "architectures": ["Gemma3ForCausalLM"]}  # type: ignore[dict-item]
    with pytest.raises(ModelError, match="no num_attention_heads"):
        describe(alone)
    assert describe(GEMMA_3_4B).heads == 8
    assert describe(PIXTRAL_12B).heads == 32
    changed = {**GEMMA_3_4B["text_config"], "num_attention_heads": 16}  # type: ignore[dict-item]
    assert describe({**GEMMA_3_4B, "text_config": changed}).heads == 16


def test_pixtral_in_llavas_clothes_has_pixtrals_peak() -> None:
    found = estimate(model=PIXTRAL_12B, gpu="H200", max_model_len=16384)
    named = estimate(model="mistralai/Pixtral-12B-2409", gpu="H200", max_model_len=16384)
    assert found["outcome"] == named["outcome"] == "fit"
    assert found["peak_activation_gib"] == pytest.approx(named["peak_activation_gib"], rel=0.05)


def test_lightning_layers_keep_a_state_and_full_ones_a_growing_cache() -> None:
    shape = describe(MINIMAX_M1)
    counts = {cache.label: count for cache, count in shape.caches}
    assert counts == {"state": 70, "full": 10}
    state = next(cache for cache, _ in shape.caches if isinstance(cache, State))
    assert state.state_bytes(8, 16) == 64 // 8 * 128 * 128 * 2
    with pytest.raises(ModelError, match="attn_type_list must have"):
        describe({**MINIMAX_M1, "attn_type_list": [0, 1]})


def test_latent_experts_are_smaller_than_whole_ones() -> None:
    whole = {key: value for key, value in NEMOTRON_3_SUPER.items() if key != "moe_latent_size"}
    assert describe(whole).parameters > 3 * describe(NEMOTRON_3_SUPER).parameters


def searched(*blocks: dict[str, Any]) -> dict[str, Any]:
    return {
        "architectures": ["DeciLMForCausalLM"],
        "hidden_size": 512,
        "num_attention_heads": 8,
        "num_hidden_layers": len(blocks),
        "vocab_size": 1024,
        "tie_word_embeddings": False,
        "block_configs": list(blocks),
    }


FULL = {"attention": {"n_heads_in_group": 4}, "ffn": {"ffn_mult": 3.0}}
NO_ATTENTION = {"attention": {"no_op": True}, "ffn": {"ffn_mult": 1.0}}
NOTHING = {"attention": {"no_op": True}, "ffn": {"no_op": True}}
REPLACED = {"attention": {"replace_with_linear": True}, "ffn": {"no_op": True}}


def test_searched_layers_have_what_their_block_says() -> None:
    ends = 2 * 1024 * 512 + 512
    attention = 512 * 512 * 2 + 2 * 512 * 128 + 512
    # int(2 x 3 x 512 / 3) and int(2 x 1 x 512 / 3), up to multiples of 256.
    wide, narrow = 3 * 512 * 1024 + 512, 3 * 512 * 512 + 512
    shape = describe(searched(FULL, NO_ATTENTION, NOTHING, REPLACED))
    assert shape.parameters == ends + attention + wide + narrow + 512 * 512 + 512
    assert [count for _, count in shape.caches] == [1]
    assert (shape.kv_heads, shape.intermediate_size) == (2, 1024)


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({"attention": {"n_heads_in_group": 3}, "ffn": {"no_op": True}}, "a divisor of the 8"),
        ({"attention": {"no_op": True}, "ffn": {}}, "ffn has no ffn_mult"),
        ({"attention": {}, "ffn": {"no_op": True}}, "no n_heads_in_group"),
        ("attention", "must be a mapping"),
    ],
)
def test_searched_block_that_says_too_little_is_refused(block: Any, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        describe(searched(FULL, block))


def test_searched_config_describes_every_layer() -> None:
    with pytest.raises(ModelError, match="block_configs must describe each of the 3 layers"):
        describe({**searched(FULL, NOTHING), "num_hidden_layers": 3})


@pytest.mark.parametrize(
    "architecture",
    ["WhisperForConditionalGeneration", "Gemma3nForConditionalGeneration", "DeepseekV4ForCausalLM"],
)
def test_architectures_that_were_not_read_stay_refused(architecture: str) -> None:
    with pytest.raises(UnknownArchitectureError, match=architecture):
        describe({"architectures": [architecture], "hidden_size": 1024})
