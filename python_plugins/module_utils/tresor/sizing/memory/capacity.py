"""From a pool of bytes to tokens, concurrency and the longest context."""

from __future__ import annotations

from dataclasses import dataclass

from .engine import Engine
from .groups import Pool


@dataclass(frozen=True)
class Capacity:
    """What a pool holds.

    `tokens` is what the engine's start-up line calls the KV cache size in that version,
    `concurrency` how many requests of the full context fit, `longest` the longest context of one
    request, and `needed_bytes` what one request of the full context needs on the worst rank.
    """

    blocks: int
    tokens: int
    concurrency: float
    longest: int
    needed_bytes: int
    fits: bool


def capacity_of(
    pool: Pool,
    engine: Engine,
    stage_available: tuple[int, ...],
    *,
    max_model_len: int,
    batched_tokens: int,
    longest_asked: int,
) -> Capacity:
    """Return the capacity of the stages' pools; the smallest number of blocks counts.

    `longest_asked` bounds the search for the longest context.
    """
    if not pool.groups or not any(pool.stage_block_bytes):
        return Capacity(1, 0, 0.0, longest_asked, 0, fits=True)
    pairs = [
        (available, size)
        for available, size in zip(stage_available, pool.stage_block_bytes, strict=True)
        if size
    ]
    blocks = max(0, min(available // size for available, size in pairs))
    usable = blocks - 1 if engine.null_block_reserved else blocks
    per_request = pool.blocks_per_request(max_model_len, batched_tokens)
    largest_block = max(size for _, size in pairs)
    concurrency = blocks / per_request
    if engine.tokens_are_capacity:
        tokens = int(concurrency * max_model_len)
    else:
        smallest = min(group.block_size for group in pool.groups)
        tokens = blocks // len(pool.groups) * smallest
    return Capacity(
        blocks,
        tokens,
        concurrency,
        _longest(pool, usable, batched_tokens, longest_asked),
        per_request * largest_block,
        fits=per_request <= usable,
    )


def _longest(pool: Pool, blocks: int, batched_tokens: int, limit: int) -> int:
    """Return the longest context whose blocks fit, 0 if not even one token does."""
    low, high = 0, limit
    while low < high:
        middle = (low + high + 1) // 2
        if pool.blocks_per_request(middle, batched_tokens) <= blocks:
            low = middle
        else:
            high = middle - 1
    return low
