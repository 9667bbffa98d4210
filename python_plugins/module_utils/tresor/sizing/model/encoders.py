"""Encoders for embedding and reranking: every layer sees the whole input, nothing is cached."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

from .blocks import attention, mlp, norm, vector
from .decoders import Decoder, Pattern, base_attention, layer_count, positions
from .fields import Fields
from .shape import Kind, Split, Weight


def bert(fields: Fields) -> Decoder:
    """BERT, RoBERTa, XLM-RoBERTa and what is built from them (BGE, E5, GTE)."""
    hidden, count = fields.integer("hidden_size"), layer_count(fields)
    base = base_attention(fields)
    inner = fields.integer("intermediate_size")
    pattern = Pattern()
    for _ in range(count):
        pattern.add(
            [
                *attention(hidden, base, prefix="attention.self", bias=True, out_bias=True),
                *norm("layernorms", 2 * hidden, bias=True),
                *mlp(hidden, inner, gated=False, bias=True),
            ],
            (),
        )
    table = fields.integer("max_position_embeddings")
    types = fields.integer("type_vocab_size", default=1)
    return Decoder(
        "encoder",
        pattern.layers,
        pattern.order,
        base.heads,
        base.kv_heads,
        base.head_dim,
        inner,
        tied=True,
        extra=(
            positions(table, hidden),
            Weight(
                "embeddings.token_type", Kind.EMBEDDING, types, hidden, Split.VOCAB, linear=False
            ),
            *norm("embeddings.norm", hidden, bias=True),
        ),
    )


def modern_bert(fields: Fields) -> Decoder:
    """ModernBERT: gated MLPs, rotary positions, local and global layers."""
    hidden, count = fields.integer("hidden_size"), layer_count(fields)
    base = base_attention(fields)
    inner = fields.integer("intermediate_size")
    pattern = Pattern()
    for _ in range(count):
        pattern.add(
            [
                *attention(hidden, base, prefix="attn"),
                *norm("layernorms", 2 * hidden),
                *mlp(hidden, inner),
            ],
            (),
        )
    return Decoder(
        "encoder",
        pattern.layers,
        pattern.order,
        base.heads,
        base.kv_heads,
        base.head_dim,
        inner,
        tied=True,
        extra=tuple(norm("embeddings.norm", hidden)),
    )


def rotary_bert(fields: Fields) -> Decoder:
    """BERT with rotary positions and gated feed-forward blocks (GTE, Nomic Embed)."""
    nomic = fields.has("n_embd")
    hidden, count = fields.integer("hidden_size", "n_embd"), layer_count(fields)
    base = base_attention(fields)
    inner = fields.integer("intermediate_size", "n_inner")
    pattern = Pattern()
    for _ in range(count):
        feed = mlp(hidden, inner)
        if not nomic:
            # Only the projection back has a bias.
            feed.append(vector("mlp.down_proj.bias", hidden, Kind.MLP))
        pattern.add(
            [
                *attention(hidden, base, prefix="attention", bias=not nomic, out_bias=not nomic),
                *norm("layernorms", 2 * hidden, bias=True),
                *feed,
            ],
            (),
        )
    types = fields.integer("type_vocab_size", default=0, minimum=0)
    tables = [Weight("embeddings.token_type", Kind.EMBEDDING, types, hidden, Split.VOCAB)]
    return Decoder(
        "encoder",
        pattern.layers,
        pattern.order,
        base.heads,
        base.kv_heads,
        base.head_dim,
        inner,
        tied=True,
        extra=(
            *(dataclasses.replace(one, linear=False) for one in tables if types),
            *norm("embeddings.norm", hidden, bias=True),
        ),
    )


ENCODERS: Mapping[str, Callable[[Fields], Decoder]] = {
    "BertModel": bert,
    "BertForMaskedLM": bert,
    "BertForSequenceClassification": bert,
    "RobertaModel": bert,
    "RobertaForMaskedLM": bert,
    "RobertaForSequenceClassification": bert,
    "XLMRobertaModel": bert,
    "XLMRobertaForSequenceClassification": bert,
    "BgeM3EmbeddingModel": bert,
    "ModernBertModel": modern_bert,
    "ModernBertForSequenceClassification": modern_bert,
    "ModernBertForMaskedLM": modern_bert,
    "GteModel": rotary_bert,
    "GteNewModel": rotary_bert,
    "NewModel": rotary_bert,
    "NomicBertModel": rotary_bert,
}
