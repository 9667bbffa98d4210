"""Encoders for embedding and reranking."""

from __future__ import annotations

from .rows import Config

_XLM, _BERT = "XLMRobertaModel", "BertModel"


def _encoder(architecture: str, *numbers: int, aliases: tuple[str, ...] = ()) -> Config:
    """`numbers` are hidden size, layers, heads, intermediate size, vocabulary and context."""
    hidden, layers, heads, intermediate, vocab, context = numbers
    return {
        "architectures": [architecture],
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": intermediate,
        "vocab_size": vocab,
        "max_position_embeddings": context,
        "type_vocab_size": 1 if architecture.startswith("XLM") else 2,
        "aliases": list(aliases),
    }


MODELS: dict[str, Config] = {
    "BAAI/bge-m3": _encoder(_XLM, 1024, 24, 16, 4096, 250002, 8194),
    "BAAI/bge-reranker-v2-m3": _encoder(
        "XLMRobertaForSequenceClassification", 1024, 24, 16, 4096, 250002, 8194
    ),
    "BAAI/bge-large-en-v1.5": _encoder(_BERT, 1024, 24, 16, 4096, 30522, 512),
    "BAAI/bge-base-en-v1.5": _encoder(_BERT, 768, 12, 12, 3072, 30522, 512),
    "BAAI/bge-small-en-v1.5": _encoder(_BERT, 384, 12, 12, 1536, 30522, 512),
    "intfloat/multilingual-e5-large": _encoder(
        _XLM, 1024, 24, 16, 4096, 250002, 514, aliases=("multilingual-e5-large-instruct",)
    ),
    "intfloat/multilingual-e5-base": _encoder(_XLM, 768, 12, 12, 3072, 250002, 514),
    "intfloat/multilingual-e5-small": _encoder(_BERT, 384, 12, 12, 1536, 250037, 512),
    "sentence-transformers/all-MiniLM-L6-v2": _encoder(_BERT, 384, 6, 12, 1536, 30522, 512),
    "Snowflake/snowflake-arctic-embed-l": _encoder(_BERT, 1024, 24, 16, 4096, 30522, 512),
    "Snowflake/snowflake-arctic-embed-l-v2.0": _encoder(_XLM, 1024, 24, 16, 4096, 250002, 8194),
    "answerdotai/ModernBERT-base": _encoder("ModernBertModel", 768, 22, 12, 1152, 50368, 8192),
    "answerdotai/ModernBERT-large": _encoder("ModernBertModel", 1024, 28, 16, 2624, 50368, 8192),
}
