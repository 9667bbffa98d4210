"""From a config dict to a `ModelShape`: architecture, language model, tower, quantization."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from ..errors import ModelError, UnknownArchitectureError, shown
from . import quantization as quant
from . import rope
from .decoders import Decoder, build
from .defaults import nested
from .encoders import ENCODERS
from .fields import LARGEST, Fields
from .formats import Format
from .hybrids import HYBRIDS
from .quantization import Quantization
from .shape import Kind, Layer, ModelShape, Split, Weight
from .towers import MULTIMODAL, Tower
from .traits import DECODERS

# model_type -> architecture, for configs (mostly nested ones) that name no architecture.
_BY_MODEL_TYPE: Mapping[str, str] = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "ministral3": "MistralForCausalLM",
    "mixtral": "MixtralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen2_vl": "Qwen2VLForConditionalGeneration",
    "qwen2_vl_text": "Qwen2ForCausalLM",
    "qwen2_5_vl": "Qwen2_5_VLForConditionalGeneration",
    "qwen2_5_vl_text": "Qwen2ForCausalLM",
    "qwen2_moe": "Qwen2MoeForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "qwen3_moe": "Qwen3MoeForCausalLM",
    "qwen3_next": "Qwen3NextForCausalLM",
    "qwen3_vl": "Qwen3VLForConditionalGeneration",
    "qwen3_vl_text": "Qwen3ForCausalLM",
    "qwen3_vl_moe": "Qwen3VLMoeForConditionalGeneration",
    "qwen3_vl_moe_text": "Qwen3MoeForCausalLM",
    "qwen3_5": "Qwen3_5ForConditionalGeneration",
    "qwen3_5_text": "Qwen3_5ForCausalLM",
    "qwen3_5_moe": "Qwen3_5MoeForConditionalGeneration",
    "qwen3_5_moe_text": "Qwen3_5MoeForCausalLM",
    "gemma": "GemmaForCausalLM",
    "gemma2": "Gemma2ForCausalLM",
    "gemma3": "Gemma3ForConditionalGeneration",
    "gemma3_text": "Gemma3ForCausalLM",
    "phi": "PhiForCausalLM",
    "phi3": "Phi3ForCausalLM",
    "phimoe": "PhiMoEForCausalLM",
    "granite": "GraniteForCausalLM",
    "granitemoe": "GraniteMoeForCausalLM",
    "granitemoehybrid": "GraniteMoeHybridForCausalLM",
    "gpt_oss": "GptOssForCausalLM",
    "llama4": "Llama4ForConditionalGeneration",
    "llama4_text": "Llama4ForCausalLM",
    "mistral3": "Mistral3ForConditionalGeneration",
    "kimi_vl": "KimiVLForConditionalGeneration",
    "kimi_k2": "DeepseekV3ForCausalLM",
    "kimi_linear": "KimiLinearForCausalLM",
    "deepseek_v2": "DeepseekV2ForCausalLM",
    "deepseek_v3": "DeepseekV3ForCausalLM",
    "deepseek_v32": "DeepseekV32ForCausalLM",
    "glm4": "Glm4ForCausalLM",
    "glm4_moe": "Glm4MoeForCausalLM",
    "glm4v": "Glm4vForConditionalGeneration",
    "glm4v_text": "Glm4ForCausalLM",
    "glm4v_moe": "Glm4vMoeForConditionalGeneration",
    "glm4v_moe_text": "Glm4MoeForCausalLM",
    "internvl": "InternVLForConditionalGeneration",
    "minimax_m1": "MiniMaxM1ForCausalLM",
    "nomic_bert": "NomicBertModel",
    "glm_moe_dsa": "GlmMoeDsaForCausalLM",
    "nemotron_h": "NemotronHForCausalLM",
    "jamba": "JambaForCausalLM",
    "falcon_h1": "FalconH1ForCausalLM",
    "bamba": "BambaForCausalLM",
    "lfm2": "Lfm2ForCausalLM",
    "cohere": "CohereForCausalLM",
    "cohere2": "Cohere2ForCausalLM",
    "starcoder2": "Starcoder2ForCausalLM",
    "olmo2": "Olmo2ForCausalLM",
    "bert": "BertModel",
    "roberta": "RobertaModel",
    "xlm-roberta": "XLMRobertaModel",
    "modernbert": "ModernBertModel",
    "smollm3": "SmolLM3ForCausalLM",
}

# Architectures that pool their output instead of sampling, on the weights of a decoder.
_POOLING: Mapping[str, str] = {
    "Qwen2Model": "Qwen2ForCausalLM",
    "Qwen3Model": "Qwen3ForCausalLM",
    "LlamaModel": "LlamaForCausalLM",
    "MistralModel": "MistralForCausalLM",
    "Gemma2Model": "Gemma2ForCausalLM",
    "Gemma3TextModel": "Gemma3ForCausalLM",
    "Qwen2ForSequenceClassification": "Qwen2ForCausalLM",
    "Qwen3ForSequenceClassification": "Qwen3ForCausalLM",
    "LlamaForSequenceClassification": "LlamaForCausalLM",
}

_DTYPE_BITS: Mapping[str, int] = {
    "bfloat16": 16,
    "float16": 16,
    "float32": 32,
    "torch.bfloat16": 16,
    "torch.float16": 16,
    "torch.float32": 32,
}


def known_architectures() -> list[str]:
    """Return the architectures whose memory is known, sorted."""
    return sorted({*DECODERS, *HYBRIDS, *ENCODERS, *MULTIMODAL, *_POOLING})


def architecture_of(config: Mapping[str, Any], name: str) -> str:
    """Return the architecture a config names; refuse what is not known, with its name."""
    names = config.get("architectures")
    if names is not None:
        if not isinstance(names, list) or not names or not isinstance(names[0], str):
            raise ModelError(f"model {name}: architectures must be a list of names")
        architecture = names[0]
    else:
        kind = config.get("model_type")
        if not isinstance(kind, str):
            raise ModelError(
                f"model {name}: config has neither architectures nor model_type; add one of them"
            )
        architecture = _BY_MODEL_TYPE.get(kind, kind)
    if architecture not in known_architectures():
        raise UnknownArchitectureError(
            f"model {name}: architecture {shown(architecture)} is not known, so its memory is not "
            "guessed; use a model of a known architecture or measure this one on a host"
        )
    return architecture


def shape_of(
    config: Mapping[str, Any],
    name: str,
    *,
    quantization: str | None = None,
    pooling: bool = False,
    family: str | None = None,
) -> ModelShape:
    """Build the shape of a model from its config.

    `quantization` names the checkpoint's quantization when the config does not hold it.
    `pooling` says that a decoder serves embeddings, so it has no output head.
    Raises `ModelError` for whatever is missing, contradictory or not known.
    """
    top = Fields(config, name)
    architecture = architecture_of(config, name)
    pooled = pooling or architecture in _POOLING or architecture in ENCODERS
    text = nested(top, "text_config", "llm_config", "language_config") or top
    tower_builder = MULTIMODAL.get(architecture)
    text_architecture = _POOLING.get(architecture, architecture)
    if tower_builder is not None:
        text_architecture = tower_builder[1]
        if text is not top and (text.has("architectures") or text.has("model_type")):
            found = architecture_of(text.config, name)
            text_architecture = found if found not in MULTIMODAL else text_architecture
    if text is not top and not text.has("tie_word_embeddings") and top.has("tie_word_embeddings"):
        merged = {**text.config, "tie_word_embeddings": config["tie_word_embeddings"]}
        text = Fields(merged, name)
    decoder = _decoder(text_architecture, text)
    hidden = text.integer("hidden_size", "n_embd", "d_model", "block_dim")
    vocab = text.integer("vocab_size", "padded_vocab_size")
    tower: Tower | None = None
    vision = nested(top, "vision_config")
    if tower_builder is not None and vision is not None:
        tower = tower_builder[0](top, vision, hidden)
    quantized, bits = _quantization(config, text.config, quantization)
    dtype_bits = bits or _dtype_bits(top, text)
    embedding, head = _ends(decoder, hidden, vocab, pooled)
    raw = ModelShape(
        name=name,
        architecture=architecture,
        family=family or (decoder.family + ("_vlm" if tower else "")),
        hidden_size=hidden,
        vocab_size=vocab,
        heads=decoder.heads,
        kv_heads=decoder.kv_heads,
        head_dim=decoder.head_dim,
        intermediate_size=decoder.intermediate,
        max_position_embeddings=text.integer(
            "max_position_embeddings",
            "max_sequence_length",
            "seq_length",
            "n_positions",
            default=LARGEST,
            maximum=1 << 30,
        ),
        layers=decoder.layers,
        pattern=decoder.pattern,
        embedding=embedding,
        head=head,
        tower=tower.weights if tower else (),
        quantization=quantized,
        dtype_bits=dtype_bits,
        tied=decoder.tied,
        pooling=pooled,
        experts=decoder.experts,
        vision=tower.vision if tower else None,
        rope_elements=rope.table_elements(
            text, [cache for layer in decoder.layers for cache in layer.caches]
        ),
    )
    return apply_quantization(raw)


def _decoder(architecture: str, fields: Fields) -> Decoder:
    if architecture in HYBRIDS:
        return HYBRIDS[architecture](fields)
    if architecture in ENCODERS:
        return ENCODERS[architecture](fields)
    return build(fields, DECODERS[architecture])


def _ends(
    decoder: Decoder, hidden: int, vocab: int, pooled: bool
) -> tuple[tuple[Weight, ...], tuple[Weight, ...]]:
    """Return the weights before the first layer and after the last."""
    first = [Weight("model.embed_tokens", Kind.EMBEDDING, vocab, hidden, Split.VOCAB, linear=False)]
    last: list[Weight] = []
    for weight in decoder.extra:
        (first if weight.kind is Kind.EMBEDDING else last).append(weight)
    if decoder.learned_positions:
        first.append(
            Weight(
                "model.embed_positions",
                Kind.EMBEDDING,
                decoder.learned_positions,
                hidden,
                linear=False,
            )
        )
    if not pooled and not decoder.tied:
        last.append(Weight("lm_head", Kind.LM_HEAD, vocab, hidden, Split.VOCAB))
        if decoder.head_bias:
            last.append(Weight("lm_head.bias", Kind.LM_HEAD, vocab, 1, Split.VOCAB, linear=False))
    return tuple(first), tuple(last)


def _dtype_bits(*sources: Fields) -> int:
    """Return the bits of the dtype that vLLM would pick: float32 checkpoints load as 16 bit."""
    for fields in sources:
        for key in ("dtype", "torch_dtype"):
            value = fields.config.get(key)
            if value is None:
                continue
            if not isinstance(value, str) or value not in _DTYPE_BITS:
                raise fields.error(key, value, "bfloat16, float16 or float32")
            return min(16, _DTYPE_BITS[value])
    return 16


def _quantization(
    config: Mapping[str, Any], text: Mapping[str, Any], asked: str | None
) -> tuple[Quantization, int | None]:
    block = config.get("quantization_config") or text.get("quantization_config")
    if asked is not None and block is None:
        return quant.named(asked)
    if block is None:
        return quant.UNQUANTIZED, None
    if not isinstance(block, Mapping):
        raise ModelError(f"quantization_config is {shown(block)}; expected a mapping")
    found = quant.from_config(block)
    if asked is not None and asked.strip().lower() not in ("", found.name):
        wanted, bits = quant.named(asked)
        if bits is not None:
            raise ModelError(
                f"quantization is {shown(asked)}, but the checkpoint's config says {found.name}; "
                "leave quantization out"
            )
        same = {one.bits for one in wanted.formats} & {one.bits for one in found.formats}
        if not same:
            raise ModelError(
                f"quantization is {shown(asked)}, but the checkpoint's config says {found.name}; "
                "leave quantization out"
            )
    return found, None


def apply_quantization(model: ModelShape) -> ModelShape:
    """Give every linear weight its format; layers that an exclude list tells apart are split."""
    if not model.quantization.formats:
        return model
    rules = model.quantization
    kinds: dict[tuple[int, tuple[Format | None, ...]], int] = {}
    layers: list[Layer] = []
    order: list[int] = []
    for position, index in enumerate(model.pattern):
        layer = _formatted_layer(model.layers[index], rules, position)
        key = (index, tuple(weight.format for weight in layer.weights))
        if key not in kinds:
            kinds[key] = len(layers)
            layers.append(layer)
        order.append(kinds[key])
    return dataclasses.replace(
        model,
        layers=tuple(layers),
        pattern=tuple(order),
        head=tuple(_formatted(weight, rules, "") for weight in model.head),
        tower=tuple(_formatted(weight, rules, "") for weight in model.tower),
    )


def _formatted_layer(layer: Layer, rules: Quantization, position: int) -> Layer:
    prefix = f"model.layers.{position}."
    return Layer(tuple(_formatted(weight, rules, prefix) for weight in layer.weights), layer.caches)


def _formatted(weight: Weight, rules: Quantization, prefix: str) -> Weight:
    if not weight.linear:
        return weight
    name = prefix + weight.module
    found = rules.format_of(
        (name, f"language_model.{name}", name.replace("model.", "model.language_model.", 1))
    )
    return weight if found is None else dataclasses.replace(weight, format=found)
