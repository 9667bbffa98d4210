"""The budget of the worst rank: what the engine takes, and what is left for the KV pool."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..model.shape import ModelShape
from . import activation, overhead
from .activation import GIB, LOGIT_BYTES, Batch, Peak
from .capacity import Capacity, capacity_of
from .card import Card
from .constants import Constants
from .engine import Engine
from .groups import CacheOptions, Pool, pool_of
from .options import KV_DTYPES, Request
from .parallel import Layout
from .runner import second_runner
from .weights import stage_bytes

# Half-width of the band that at least nine of ten measured pools lie in, as a share of the card:
# for the versions with many measured start-ups, and for others (docs/sizing.md).
_BAND_MEASURED = 0.01
_BAND_OTHER = 0.055


@dataclass(frozen=True)
class Budget:
    """All sizes in bytes, of the rank that limits the pool."""

    total: float
    requested: float
    weights: int
    heaviest: int
    activation: float
    non_torch: float
    graphs: float
    graphs_in_budget: bool
    available: float
    capacity: Capacity
    pool: Pool
    batch: Batch
    warm_up: float
    context: float
    max_model_len: int
    utilization: float
    band: float
    resolved: Mapping[str, object] = field(default_factory=dict)

    @property
    def outside(self) -> float:
        """Bytes of the card that neither the budget nor the process itself takes."""
        return self.total - self.context - self.requested

    @property
    def missing(self) -> float:
        """Bytes that warm-up lacks after the pool is taken; negative if there is room."""
        graphs = 0.0 if self.graphs_in_budget else self.graphs
        return graphs + self.warm_up - self.outside

    def error_band(self) -> dict[str, float]:
        """Return the band around the pool: plus and minus GiB, and that as a share of the card."""
        width = self.band * self.total
        return {
            "available_kv_gib_low": round((self.available - width) / GIB, 2),
            "available_kv_gib_high": round((self.available + width) / GIB, 2),
            "share_of_card": round(self.band, 4),
        }


@dataclass(frozen=True)
class Setting:
    """What a budget is made for: model, layout, engine, card and the constants to use."""

    model: ModelShape
    layout: Layout
    engine: Engine
    card: Card
    constants: Constants


def budget_of(setting: Setting, request: Request) -> Budget:
    """Return the budget; nothing is decided here."""
    model, layout, engine = setting.model, setting.layout, setting.engine
    card, constants = setting.card, setting.constants
    total = card.total_gib * GIB
    utilization = request.gpu_memory_utilization or engine.gpu_memory_utilization
    batch = batch_of(setting, request)
    length = request.max_model_len or model.max_position_embeddings
    pool = pool_of(model, layout, engine, _cache_options(setting, request))
    weights = stage_bytes(model, layout, engine)
    last = layout.pipeline - 1
    fused = overhead.fuses_all_reduce(layout, engine, card.capability, eager=request.enforce_eager)
    outside = 0.0 if engine.cpu else overhead.non_torch(layout, engine, constants, fused=fused)
    graphs = 0.0
    if not request.enforce_eager and not engine.cpu and not (model.pooling and not pool.groups):
        captured = overhead.capture_sizes(model, engine, card, batch)
        graphs = overhead.graphs(model, layout, engine, captured, constants)
    peaks = [
        activation.peak(
            model, layout, engine, batch, constants, first=stage == 0, last=stage == last
        )
        for stage in range(layout.pipeline)
    ]
    requested = utilization * total
    available = [
        requested - size - peak.bytes - outside - (graphs if engine.graphs_in_budget else 0.0)
        for size, peak in zip(weights, peaks, strict=True)
    ]
    if request.kv_cache_memory_bytes is not None:
        available = [float(request.kv_cache_memory_bytes)] * layout.pipeline
    capacity = capacity_of(
        pool,
        engine,
        tuple(int(value) for value in available),
        max_model_len=length,
        batched_tokens=batch.tokens,
        longest_asked=max(length, min(model.max_position_embeddings, 1 << 24)),
    )
    worst = min(range(layout.pipeline), key=lambda stage: available[stage])
    return Budget(
        total=total,
        requested=requested,
        weights=weights[worst],
        heaviest=max(weights),
        activation=peaks[worst].bytes,
        non_torch=outside,
        graphs=graphs,
        graphs_in_budget=engine.graphs_in_budget,
        available=available[worst],
        capacity=capacity,
        pool=pool,
        batch=batch,
        warm_up=_warm_up(setting, batch, peaks[-1]),
        context=0.0 if engine.cpu else constants.context * GIB,
        max_model_len=length,
        utilization=utilization,
        band=_BAND_MEASURED if engine.since(12) and not engine.since(20) else _BAND_OTHER,
        resolved={
            "gpu_memory_utilization": utilization,
            "max_model_len": length,
            "max_num_seqs": batch.sequences,
            "max_num_batched_tokens": batch.tokens,
            "block_size": pool.block_size,
        },
    )


def _warm_up(setting: Setting, batch: Batch, last: Peak) -> float:
    """Return what the sampler's warm-up needs beyond the peak that was profiled.

    It runs after the pool is taken. Engines that sort profile the same buffers they use then; the
    second model runner filters only now.
    """
    if setting.model.pooling or not setting.engine.since(17):
        return 0.0
    logits = min(batch.sequences, batch.tokens) * setting.model.vocab_size
    extra = setting.constants.warm_up_logit_bytes * logits
    if second_runner(setting.model, setting.engine):
        extra = (LOGIT_BYTES["flashinfer"] - LOGIT_BYTES["unfiltered"]) * logits
    return max(0.0, last.sampler + extra - last.bytes)


def batch_of(setting: Setting, request: Request) -> Batch:
    """Return what the profile run feeds, with the engine's defaults filled in."""
    model, engine, card = setting.model, setting.engine, setting.card
    length = request.max_model_len or model.max_position_embeddings
    modest = card.modest(engine)
    sequences = request.max_num_seqs or engine.sequences(card.total_gib, modest=modest)
    tokens = request.max_num_batched_tokens
    if tokens is None:
        tokens = engine.batched_tokens(card.total_gib, length, modest=modest)
        if engine.batch_within_context:
            if model.encoder_only:
                # No chunks: a prompt of the full context must fit.
                tokens = max(tokens, length)
            tokens = min(tokens, sequences * length)
    if model.vision is not None and request.max_num_batched_tokens is None:
        tokens = max(tokens, model.vision.max_tokens_per_item)
    return Batch(tokens, min(sequences, tokens), card.multiprocessors)


def _cache_options(setting: Setting, request: Request) -> CacheOptions:
    model, engine, card = setting.model, setting.engine, setting.card
    asked = request.kv_cache_dtype
    if asked == "auto" and model.quantization.fp8_cache and engine.obeys_checkpoint_cache:
        asked = "fp8"
    if asked == "auto" and card.big_blackwell and engine.since(32):
        # `GlmMoeDsaForCausalLM` in vLLM's `models/config.py`.
        asked = "fp8_e4m3" if model.architecture == "GlmMoeDsaForCausalLM" else asked
    return CacheOptions(
        request.block_size,
        KV_DTYPES[asked] or model.dtype_bits,
        _packed_latent(engine, card, asked),
        request.enable_prefix_caching,
    )


def _packed_latent(engine: Engine, card: Card, asked: str) -> bool:
    """Tell whether sparse latent attention keeps the 656 bytes of FlashMLA's layout.

    Its 8-bit caches do; on Blackwell for data centres FlashInfer serves them since 0.19, with plain
    8-bit values. FlashInfer on the other Blackwell cards (0.24) has that layout for `auto`, too.
    Sources: `_canonicalize_sparse_mla_kv_cache_dtype`, the backends in `platforms/cuda.py`.
    """
    if asked == "fp8_ds_mla":
        return True
    if asked == "auto":
        return engine.since(24) and 120 <= card.capability < 130
    return asked.startswith("fp8") and not (card.big_blackwell and engine.since(19))
