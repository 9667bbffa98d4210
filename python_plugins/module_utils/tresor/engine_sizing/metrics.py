"""Read `vllm:cache_config_info` from an engine's metrics.

Its labels are the engine's cache configuration. From about 0.20 on they hold the capacity itself
(`kv_cache_size_tokens`). Before, blocks times block size is the capacity of a model whose layers
are all of one kind; with several kinds the block size is the smallest of them, and the product is
no capacity. So the product is only a fallback.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

from .observed import Observed

NAME: Final = "vllm:cache_config_info"
SIZE_LIMIT: Final = 16 * 1024 * 1024
_LABEL: Final = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"')


def parse_metrics(text: str) -> Observed:
    """Return the least of all engines behind this endpoint; nothing if there is no such metric."""
    engines = [_observed(labels) for labels in _samples(text[:SIZE_LIMIT])]
    if not engines:
        return Observed()
    return min(engines, key=lambda one: (one.kv_tokens is None, one.kv_tokens or 0))


def _samples(text: str) -> Iterator[Mapping[str, str]]:
    for line in text.splitlines():
        if line.startswith(NAME + "{"):
            yield dict(_LABEL.findall(line))


def _observed(labels: Mapping[str, str]) -> Observed:
    blocks, size = _whole(labels, "num_gpu_blocks"), _whole(labels, "block_size")
    tokens = _whole(labels, "kv_cache_size_tokens")
    if tokens is None and blocks and size:
        tokens = blocks * size
    return Observed(
        kv_tokens=tokens,
        max_concurrency=_number(labels, "kv_cache_max_concurrency"),
        num_blocks=blocks,
        block_size=size,
    )


def _whole(labels: Mapping[str, str], name: str) -> int | None:
    text = labels.get(name, "")
    return int(text) if text.isdecimal() else None


def _number(labels: Mapping[str, str], name: str) -> float | None:
    try:
        return float(labels[name])
    except (KeyError, ValueError):
        return None
