"""KV cache groups: how many bytes a block has, and how many blocks a request needs.

Layers of one type form groups of equal size, pages are made equal, and every group has a block
table of its own. Sources: vLLM's `v1/core/kv_cache_utils.py`, `v1/kv_cache_interface.py`, and the
alignment of hybrid block sizes in `model_executor/models/config.py` and `platforms/interface.py`.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

from ..model.shape import Attention, Cache, LatentAttention, ModelShape, State
from .engine import Engine
from .parallel import Layout, stage_layers

# The fp8 layout of sparse latent attention: 512 fp8 values, 4 float32 scales, 64 16-bit values of
# rotary position.
_FP8_LATENT_BYTES = 656


@dataclass(frozen=True)
class CacheOptions:
    """What decides the layout of the pool besides the model.

    `packed_latent` says that sparse latent attention packs values, scales and rotary positions.
    """

    block_size: int | None
    kv_bits: int
    packed_latent: bool
    prefix_caching: bool | None


@dataclass(frozen=True)
class Group:
    """Layers that share a block table: their cache and tokens per block."""

    cache: Cache
    block_size: int


@dataclass(frozen=True)
class Pool:
    """The layout of the pool: block size, groups, and bytes of a block on each stage's ranks."""

    block_size: int
    groups: tuple[Group, ...]
    stage_block_bytes: tuple[int, ...]
    states_per_request: int
    in_flight_batches: int

    def blocks_per_request(self, length: int, batched_tokens: int) -> int:
        """Blocks that one request of `length` tokens needs in all groups together."""
        in_flight = self.in_flight_batches * batched_tokens
        return sum(self._blocks(group, length, in_flight) for group in self.groups)

    def _blocks(self, group: Group, length: int, in_flight: int) -> int:
        cache = group.cache
        if isinstance(cache, State):
            return self.states_per_request
        if isinstance(cache, Attention) and cache.window is not None:
            kept = min(cache.window - 1 + in_flight, length)
            return -(-kept // group.block_size) + 1
        if isinstance(cache, Attention) and cache.chunk is not None:
            return -(-min(cache.chunk + in_flight, length) // group.block_size)
        return -(-length // group.block_size)


@functools.lru_cache(maxsize=4096)
def pool_of(model: ModelShape, layout: Layout, engine: Engine, options: CacheOptions) -> Pool:
    """Return the layout of the pool of one rank."""
    caches = _effective(model, engine)
    latent = any(isinstance(cache, LatentAttention) for cache, _ in caches)
    block = options.block_size or engine.block_size(latent=latent)
    has_states = any(isinstance(cache, State) for cache, _ in caches)
    cached = engine.states_cached if options.prefix_caching is None else options.prefix_caching
    block = _aligned_block(model, layout, options, [cache for cache, _ in caches], block)
    pages = {cache: _page_bytes(cache, model, layout, options, block) for cache, _ in caches}
    layers = _layers_by_cache(model, dict.fromkeys(pages), engine)
    stages = stage_layers(model.num_layers, layout.pipeline)
    if _uniform(list(pages)):
        groups, stage_bytes = _one_group(stages, pages, layers, block)
    else:
        groups, stage_bytes = _many_groups(stages, engine, pages, layers, block)
    return Pool(
        block,
        groups,
        stage_bytes,
        2 if cached and has_states else 1,
        engine.in_flight_batches
        if layout.pipeline == 1 or not engine.since(28)
        else layout.pipeline + 1,
    )


def _full(cache: Cache) -> Cache:
    """Return the cache as full attention, as engines without group support keep it."""
    if isinstance(cache, Attention) and (cache.window or cache.chunk):
        return Attention(cache.heads, cache.kv_heads, cache.head_dim, cache.head_dim_v)
    return cache


def _effective_cache(cache: Cache, engine: Engine, *, mixed: bool) -> Cache:
    if not mixed:
        return cache
    if isinstance(cache, Attention) and cache.chunk is not None and not engine.chunked_groups:
        return _full(cache)
    return cache if engine.hybrid_groups else _full(cache)


def _effective(model: ModelShape, engine: Engine) -> list[tuple[Cache, int]]:
    mixed = len(model.caches) > 1
    counts: dict[Cache, int] = {}
    for cache, count in model.caches:
        kept = _effective_cache(cache, engine, mixed=mixed)
        counts[kept] = counts.get(kept, 0) + count
    return list(counts.items())


def _page_bytes(
    cache: Cache, model: ModelShape, layout: Layout, options: CacheOptions, block: int
) -> int:
    if isinstance(cache, State):
        return cache.state_bytes(layout.tensor, model.dtype_bits)
    if isinstance(cache, LatentAttention):
        if cache.indexer_bytes and options.packed_latent:
            per_token = _FP8_LATENT_BYTES
        else:
            per_token = cache.width * options.kv_bits // 8
        return block * (per_token + cache.indexer_bytes)
    return block * cache.elements_per_token(layout.tensor) * options.kv_bits // 8


def _aligned_block(
    model: ModelShape, layout: Layout, options: CacheOptions, caches: list[Cache], block: int
) -> int:
    """Return the block size at which a page of attention is no smaller than a state."""
    states = [cache for cache in caches if isinstance(cache, State)]
    growing = [cache for cache in caches if not isinstance(cache, State)]
    if not states or not growing:
        return block
    per_token = max(_page_bytes(cache, model, layout, options, 1) for cache in growing)
    largest = max(state.state_bytes(layout.tensor, model.dtype_bits) for state in states)
    step = 128 if any(isinstance(cache, LatentAttention) for cache in growing) else 16
    step = max(step, block)
    return step * -(-largest // (step * per_token))


def _uniform(caches: list[Cache]) -> bool:
    """Tell whether all caches need the same number of token slots per request."""
    kinds = {
        (type(cache).__name__, getattr(cache, "window", None), getattr(cache, "chunk", None))
        if isinstance(cache, Attention | State)
        else ("Attention", None, None)
        for cache in caches
    }
    return len(kinds) <= 1


def _layers_by_cache(
    model: ModelShape, caches: dict[Cache, None], engine: Engine
) -> dict[Cache, list[int]]:
    """Return for every cache the layers that keep it, in order."""
    mixed = len(model.caches) > 1
    found: dict[Cache, list[int]] = {cache: [] for cache in caches}
    for position, index in enumerate(model.pattern):
        for cache in model.layers[index].caches:
            found[_effective_cache(cache, engine, mixed=mixed)].append(position)
    return found


def _one_group(
    stages: list[tuple[int, int]],
    pages: dict[Cache, int],
    layers: dict[Cache, list[int]],
    block: int,
) -> tuple[tuple[Group, ...], tuple[int, ...]]:
    stage_bytes = []
    for first, end in stages:
        stage_bytes.append(
            sum(
                pages[cache] * sum(first <= layer < end for layer in members)
                for cache, members in layers.items()
            )
        )
    return tuple(Group(cache, block) for cache in list(pages)[:1]), tuple(stage_bytes)


def _many_groups(
    stages: list[tuple[int, int]],
    engine: Engine,
    pages: dict[Cache, int],
    layers: dict[Cache, list[int]],
    block: int,
) -> tuple[tuple[Group, ...], tuple[int, ...]]:
    counts = [len(members) for members in layers.values()]
    size = min(counts)
    if max(counts) < size * engine.group_ratio:
        size = max(counts)
    page = max(pages.values())
    groups: list[Group] = []
    members_of: list[list[int]] = []
    for cache, members in layers.items():
        number = -(-len(members) // size)
        own = pages[cache]
        tokens = block
        if not isinstance(cache, State) and own < page and page % own == 0:
            tokens = block * (page // own)
        for index in range(number):
            groups.append(Group(cache, tokens))
            members_of.append(members[index::number])
    stage_bytes = []
    for first, end in stages:
        widest = max(sum(first <= layer < end for layer in members) for members in members_of)
        stage_bytes.append(widest * page)
    return tuple(groups), tuple(stage_bytes)
