"""Vision towers of multimodal models: their weights and how many tokens an image becomes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from .blocks import linear, norm
from .fields import Fields
from .shape import Kind, Split, Vision, Weight

_KIND = Kind.VISION


@dataclass(frozen=True)
class Tower:
    """A vision tower with its projector into the language model."""

    weights: tuple[Weight, ...]
    vision: Vision


@dataclass(frozen=True)
class _Encoder:
    """A vision transformer, as far as the towers below share it."""

    hidden: int
    layers: int
    intermediate: int
    heads: int
    gated: bool = False
    bias: bool = True
    norm_bias: bool = True

    def weights(self, prefix: str) -> list[Weight]:
        """Return the weights of all layers as copies of one layer."""
        hidden, inner = self.hidden, self.intermediate
        one: list[Weight] = []
        for name in ("q_proj", "k_proj", "v_proj"):
            one += linear(
                f"{prefix}.attn.{name}", _KIND, hidden, hidden, Split.COLUMN, bias=self.bias
            )
        one += linear(f"{prefix}.attn.proj", _KIND, hidden, hidden, Split.ROW, bias=self.bias)
        for name in ("gate_proj", "fc1") if self.gated else ("fc1",):
            one += linear(
                f"{prefix}.mlp.{name}", _KIND, inner, hidden, Split.COLUMN, bias=self.bias
            )
        one += linear(f"{prefix}.mlp.fc2", _KIND, hidden, inner, Split.ROW, bias=self.bias)
        one += norm(f"{prefix}.norm", 2 * hidden, bias=self.norm_bias)
        return [
            Weight(w.module, w.kind, w.rows, w.cols, w.split, self.layers, w.heads, w.linear)
            for w in one
        ]


def _table(module: str, rows: int, cols: int) -> Weight:
    return Weight(module, _KIND, rows, cols, linear=False)


def _encoder(
    fields: Fields, *, gated: bool = False, bias: bool = True, norm_bias: bool = True
) -> _Encoder:
    hidden = fields.integer("hidden_size", "embed_dim", "vt_hidden_size")
    inner = fields.integer(
        "intermediate_size",
        "vt_intermediate_size",
        default=int(hidden * fields.number("mlp_ratio", 4.0, 0.1, 64.0)),
    )
    return _Encoder(
        hidden,
        fields.integer("num_hidden_layers", "depth", "vt_num_hidden_layers", maximum=1024),
        inner,
        fields.integer("num_attention_heads", "num_heads", "vt_num_attention_heads"),
        gated,
        bias,
        norm_bias,
    )


def siglip(top: Fields, fields: Fields, text_hidden: int) -> Tower:
    """SigLIP and CLIP towers with one projection (Gemma 3, PaliGemma, LLaVA, SmolVLM).

    LLaVA's architecture also carries Pixtral's tower (mistral-community/pixtral-12b).
    """
    if fields.text("model_type") == "pixtral":
        return pixtral(top, fields, text_hidden)
    encoder = _encoder(fields)
    image = fields.integer("image_size", default=384)
    patch = fields.integer("patch_size", default=14)
    patches = (image // patch) ** 2
    tokens = top.integer("mm_tokens_per_image", "image_seq_length", default=patches)
    scale = top.integer("scale_factor", default=1)
    deep = top.text("model_type").startswith("llava")
    inputs = encoder.hidden * scale * scale
    weights = [
        *encoder.weights("vision_tower"),
        *linear(
            "vision_tower.patch_embedding",
            _KIND,
            encoder.hidden,
            3 * patch * patch,
            Split.REPLICATED,
            bias=True,
        ),
        _table("vision_tower.position_embedding", patches, encoder.hidden),
        *norm("vision_tower.post_layernorm", encoder.hidden, bias=True),
        *linear("multi_modal_projector.linear_1", _KIND, text_hidden, inputs, Split.REPLICATED),
    ]
    if deep:
        weights += linear(
            "multi_modal_projector.linear_2",
            _KIND,
            text_hidden,
            text_hidden,
            Split.REPLICATED,
            bias=True,
        )
    return Tower(tuple(weights), _vision(encoder, patches, max(1, tokens // (scale * scale))))


def _vision(encoder: _Encoder, patches: int, tokens: int) -> Vision:
    return Vision(
        encoder.hidden, encoder.layers, encoder.intermediate, encoder.heads, patches, tokens
    )


def pixtral(top: Fields, fields: Fields, text_hidden: int) -> Tower:
    """Pixtral's tower (Mistral Small 3.1 and later): gated, with a patch merger."""
    encoder = _encoder(fields, gated=True, bias=False, norm_bias=False)
    image = fields.integer("image_size", default=1540)
    patch = fields.integer("patch_size", default=14)
    merge = top.integer("spatial_merge_size", default=1, maximum=16)
    side = image // patch
    bias = top.flag("multimodal_projector_bias", top.text("model_type") == "llava")
    weights = [
        *encoder.weights("vision_tower"),
        *linear(
            "vision_tower.patch_conv", _KIND, encoder.hidden, 3 * patch * patch, Split.REPLICATED
        ),
        *linear(
            "multi_modal_projector.linear_1",
            _KIND,
            text_hidden,
            encoder.hidden,
            Split.REPLICATED,
            bias=bias,
        ),
        *linear(
            "multi_modal_projector.linear_2",
            _KIND,
            text_hidden,
            text_hidden,
            Split.REPLICATED,
            bias=bias,
        ),
    ]
    if merge > 1:
        weights += linear(
            "multi_modal_projector.patch_merger",
            _KIND,
            encoder.hidden,
            encoder.hidden * merge * merge,
            Split.REPLICATED,
        )
    # Each row of patches ends with a break token.
    tokens = (side // merge) * (side // merge + 1)
    return Tower(tuple(weights), _vision(encoder, side * side, tokens))


def qwen(top: Fields, fields: Fields, text_hidden: int) -> Tower:
    """Qwen2-VL, Qwen2.5-VL, Qwen3-VL and Qwen3.5 towers: dynamic resolution, merged patches."""
    kind = top.text("model_type")
    second = kind.startswith("qwen2_5")
    merge = fields.integer("spatial_merge_size", default=2, maximum=16)
    patch = fields.integer("patch_size", default=14)
    if kind == "qwen2_vl":
        hidden = fields.integer("embed_dim", default=1280)
        encoder = _Encoder(
            hidden,
            fields.integer("depth", default=32, maximum=1024),
            int(hidden * fields.number("mlp_ratio", 4.0, 0.1, 64.0)),
            fields.integer("num_heads", default=16),
        )
    else:
        encoder = _encoder(fields, gated=second, norm_bias=not second)
    merged = encoder.hidden * merge * merge
    weights = [
        *encoder.weights("visual.blocks"),
        *linear(
            "visual.patch_embed",
            _KIND,
            encoder.hidden,
            3 * fields.integer("temporal_patch_size", default=2, maximum=16) * patch * patch,
            Split.REPLICATED,
        ),
        *linear("visual.merger.0", _KIND, merged, merged, Split.COLUMN, bias=True),
        *linear("visual.merger.2", _KIND, text_hidden, merged, Split.ROW, bias=True),
    ]
    places = fields.integer("num_position_embeddings", default=0, minimum=0)
    if places:
        weights.append(_table("visual.pos_embed", places, encoder.hidden))
    for index in fields.integers("deepstack_visual_indexes") or ():
        name = f"visual.deepstack_merger_list.{index}"
        weights += linear(f"{name}.fc1", _KIND, merged, merged, Split.COLUMN, bias=True)
        weights += linear(f"{name}.fc2", _KIND, text_hidden, merged, Split.ROW, bias=True)
    # The processors' default largest image: 12,845,056 pixels at patch 14, 16,777,216 at 16.
    patches = (16777216 if patch == 16 else 12845056) // (patch * patch)
    return Tower(tuple(weights), _vision(encoder, patches, patches // (merge * merge)))


def moonvit(top: Fields, fields: Fields, text_hidden: int) -> Tower:
    """MoonViT (Kimi-VL, Kimi K2.5): native resolution, two by two patches merged."""
    del top
    encoder = _encoder(fields)
    patch = fields.integer("patch_size", default=14)
    side = fields.integer("init_pos_emb_height", default=64)
    merged = encoder.hidden * 4
    weights = [
        *encoder.weights("vision_tower"),
        *linear(
            "vision_tower.patch_embed",
            _KIND,
            encoder.hidden,
            3 * patch * patch,
            Split.REPLICATED,
            bias=True,
        ),
        _table("vision_tower.pos_emb", side * side, encoder.hidden),
        *linear(
            "multi_modal_projector.linear_1", _KIND, merged, merged, Split.REPLICATED, bias=True
        ),
        *linear(
            "multi_modal_projector.linear_2",
            _KIND,
            text_hidden,
            merged,
            Split.REPLICATED,
            bias=True,
        ),
    ]
    return Tower(tuple(weights), _vision(encoder, 4096, 1024))


def llama4(top: Fields, fields: Fields, text_hidden: int) -> Tower:
    """Llama 4's tower: tiles of 336 pixels, pixel shuffle, an adapter of two layers."""
    del top
    encoder = _encoder(fields)
    image = fields.integer("image_size", default=336)
    patch = fields.integer("patch_size", default=14)
    patches = (image // patch) ** 2
    inner = fields.integer("projector_input_dim", default=4096)
    outer = fields.integer("projector_output_dim", "vision_output_dim", default=4096)
    weights = [
        *encoder.weights("vision_model"),
        *linear(
            "vision_model.patch_embedding",
            _KIND,
            encoder.hidden,
            3 * patch * patch,
            Split.COLUMN,
        ),
        _table("vision_model.positional_embedding", patches + 1, encoder.hidden),
        *linear(
            "vision_model.vision_adapter.fc1", _KIND, inner, encoder.intermediate, Split.COLUMN
        ),
        *linear("vision_model.vision_adapter.fc2", _KIND, outer, inner, Split.ROW),
        *linear("multi_modal_projector.linear_1", _KIND, text_hidden, outer, Split.COLUMN),
    ]
    # 16 tiles and the overview at most, a quarter of the patches each.
    return Tower(tuple(weights), _vision(encoder, 17 * patches, 17 * (patches // 4)))


def intern_vit(top: Fields, fields: Fields, text_hidden: int) -> Tower:
    """InternViT with InternVL's two-layer projector: tiles of 448 pixels, quarter resolution."""
    encoder = _encoder(fields)
    image = fields.integer("image_size", default=448)
    patch = fields.integer("patch_size", default=14)
    patches = (image // patch) ** 2
    merged = encoder.hidden * 4
    weights = [
        *encoder.weights("vision_model"),
        *linear(
            "vision_model.patch_embedding",
            _KIND,
            encoder.hidden,
            3 * patch * patch,
            Split.REPLICATED,
            bias=True,
        ),
        _table("vision_model.position_embedding", patches + 1, encoder.hidden),
        *norm("mlp1.0", merged, bias=True),
        *linear("mlp1.1", _KIND, text_hidden, merged, Split.REPLICATED, bias=True),
        *linear("mlp1.3", _KIND, text_hidden, text_hidden, Split.REPLICATED, bias=True),
    ]
    tiles = top.integer("max_dynamic_patch", default=12, maximum=256) + 1
    return Tower(tuple(weights), _vision(encoder, tiles * patches, tiles * (patches // 4)))


def glm(top: Fields, fields: Fields, text_hidden: int) -> Tower:
    """GLM-4.1V, 4.5V, 4.6V: gated blocks as wide as the output, a convolution, a gated merger."""
    del top, text_hidden
    hidden = fields.integer("hidden_size")
    outer = fields.integer("out_hidden_size")
    inner = fields.integer("intermediate_size")
    merge = fields.integer("spatial_merge_size", default=2, maximum=16)
    patch = fields.integer("patch_size", default=14)
    image = fields.integer("image_size", default=336)
    frames = fields.integer("temporal_patch_size", default=2, maximum=16)
    encoder = _Encoder(
        hidden,
        fields.integer("depth", "num_hidden_layers", maximum=1024),
        outer,
        fields.integer("num_heads", "num_attention_heads"),
        gated=True,
        bias=False,
        norm_bias=False,
    )
    weights = [
        *encoder.weights("visual.blocks"),
        *linear(
            "visual.patch_embed",
            _KIND,
            hidden,
            3 * frames * patch * patch,
            Split.REPLICATED,
            bias=True,
        ),
        _table("visual.position_embedding", (image // patch) ** 2, hidden),
        *norm("visual.norms", 2 * hidden),
        *linear(
            "visual.downsample", _KIND, outer, hidden * merge * merge, Split.REPLICATED, bias=True
        ),
        *linear("visual.merger.proj", _KIND, outer, outer, Split.COLUMN),
        *norm("visual.merger.norm", outer, bias=True),
        *linear("visual.merger.gate_proj", _KIND, inner, outer, Split.COLUMN),
        *linear("visual.merger.up_proj", _KIND, inner, outer, Split.COLUMN),
        *linear("visual.merger.down_proj", _KIND, outer, inner, Split.ROW),
    ]
    # The processor's largest image: 9,633,792 pixels, counted for two frames.
    patches = 9633792 // frames // (patch * patch)
    return Tower(tuple(weights), _vision(encoder, patches, patches // (merge * merge)))


Builder = Callable[[Fields, Fields, int], Tower]

# architecture -> (tower, architecture of the language model when its own config names none)
MULTIMODAL: Mapping[str, tuple[Builder, str]] = {
    "Gemma3ForConditionalGeneration": (siglip, "Gemma3ForCausalLM"),
    "PaliGemmaForConditionalGeneration": (siglip, "GemmaForCausalLM"),
    "LlavaForConditionalGeneration": (siglip, "LlamaForCausalLM"),
    "Idefics3ForConditionalGeneration": (siglip, "LlamaForCausalLM"),
    "SmolVLMForConditionalGeneration": (siglip, "LlamaForCausalLM"),
    "Mistral3ForConditionalGeneration": (pixtral, "MistralForCausalLM"),
    "PixtralForConditionalGeneration": (pixtral, "MistralForCausalLM"),
    "Llama4ForConditionalGeneration": (llama4, "Llama4ForCausalLM"),
    "KimiVLForConditionalGeneration": (moonvit, "DeepseekV3ForCausalLM"),
    "KimiK25ForConditionalGeneration": (moonvit, "DeepseekV3ForCausalLM"),
    "Qwen2VLForConditionalGeneration": (qwen, "Qwen2ForCausalLM"),
    "Qwen2_5_VLForConditionalGeneration": (qwen, "Qwen2ForCausalLM"),
    "Qwen3VLForConditionalGeneration": (qwen, "Qwen3ForCausalLM"),
    "Qwen3VLMoeForConditionalGeneration": (qwen, "Qwen3MoeForCausalLM"),
    "Qwen3_5ForConditionalGeneration": (qwen, "Qwen3_5ForCausalLM"),
    "Qwen3_5MoeForConditionalGeneration": (qwen, "Qwen3_5MoeForCausalLM"),
    "InternVLChatModel": (intern_vit, "Qwen2ForCausalLM"),
    "InternVLForConditionalGeneration": (intern_vit, "Qwen2ForCausalLM"),
    "Glm4vForConditionalGeneration": (glm, "Glm4ForCausalLM"),
    "Glm4vMoeForConditionalGeneration": (glm, "Glm4MoeForCausalLM"),
}
