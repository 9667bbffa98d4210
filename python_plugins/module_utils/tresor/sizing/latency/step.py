"""The time of one engine step on one rank: the roofline, and what a real engine adds to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ..gpu import Gpu
from .constants import Constants
from .context import causal_pairs, mean_cached
from .work import ACTIVATION_BYTES, ARITHMETICS, WEIGHT_ONLY, Work

# Memory and arithmetic overlap inside a matrix product, but not fully where both are busy.
KNEE: Final = 3.0
# A dispatch carries 8-bit activations with scales, a combine 16-bit ones.
ALL_TO_ALL_BYTES: Final = 3
# Between nodes: one 400 Gbit/s port for each GPU, as NVIDIA's and AMD's reference designs have.
NODE_LINK_GB_S: Final = 50.0
MICRO: Final = 1e-6
# Rows of a tile of a grouped product: the last tile of each expert is half empty on average, and
# kernels take narrower tiles for fewer rows. For a single product libraries choose among tiles and
# split the inner dimension, which wastes about half as much.
TILE: Final = 128.0
SINGLE: Final = 0.5


@dataclass(frozen=True)
class Speed:
    """What one rank reaches: bytes, operations and messages a second; waits in seconds."""

    bandwidth: float
    cache: float
    compute: dict[str, float]
    attention: float
    layer: float
    sequence: float
    request: float
    link: float
    link_wait: float
    expert: float
    expert_unpack: float
    expert_read: float
    expert_wait: float
    balance: float
    moved: float
    vector: float
    tile: float
    host: float
    overlapped: bool = False


@dataclass(frozen=True)
class Load:
    """One step: ``sequences`` that decode one token each, and a slice of prompts.

    ``cache_bytes`` and ``cache_products`` are those of one decoding sequence; ``prompt_tokens`` are
    the tokens of the slice and ``prompt_products`` the multiply-adds of its attention.
    """

    sequences: float = 0.0
    cache_bytes: float = 0.0
    cache_products: float = 0.0
    prompt_tokens: float = 0.0
    prompt_products: float = 0.0
    prompts: float = 0.0


@dataclass(frozen=True)
class Parts:
    """Where the time of a step goes, in seconds.

    ``product`` is the time of the matrix products, in which reading ``weights`` and ``arithmetic``
    overlap.
    """

    weights: float
    arithmetic: float
    cache: float
    prompt_attention: float
    communication: float
    overhead: float
    product: float

    @property
    def total(self) -> float:
        """Seconds of the whole step."""
        rest = self.cache + self.prompt_attention + self.communication + self.overhead
        return self.product + rest

    def bound_by(self) -> str:
        """Return the name of what takes most of the step."""
        named = {
            "memory bandwidth (weights)": self.weights,
            "arithmetic": max(self.arithmetic, self.prompt_attention),
            "memory bandwidth (KV cache)": self.cache,
            "GPU-to-GPU links": self.communication,
            "launch and scheduling overhead": self.overhead,
        }
        return max(named, key=lambda name: named[name])


def decode_load(work: Work, start: float, end: float) -> tuple[float, float]:
    """Return bytes read and multiply-adds of one sequence, averaged from length start to end."""
    size = products = 0.0
    for cache in work.caches:
        length = mean_cached(start, end, cache.window)
        size += cache.per_token * length + cache.fixed
        products += cache.products * length
    return size, products


def prompt_products(work: Work, before: float, tokens: float) -> float:
    """Return the multiply-adds of attention for ``tokens`` that follow ``before`` cached ones."""
    return sum(
        cache.prefill_products * causal_pairs(before, tokens, cache.window)
        for cache in work.caches
        if cache.prefill_products
    )


def engine_speed(
    gpu: Gpu, constants: Constants, factors: tuple[str, ...], work: Work, gpus_per_node: int
) -> Speed:
    """Return what a rank reaches under fitted constants."""
    link, wires = _link(gpu, work, gpus_per_node)
    every = (gpu.architecture, *factors)
    compute = {
        kind: _dense(gpu, kind) * constants.share("compute", kind, *every) for kind in ARITHMETICS
    }
    return Speed(
        bandwidth=gpu.bandwidth_gb_s * 1e9 * constants.share("bandwidth", *every),
        cache=gpu.bandwidth_gb_s * 1e9 * constants.share("cache", *every),
        compute=compute,
        attention=_dense(gpu, "bf16") * constants.share("attention", *every),
        layer=constants.value("layer_us", *every) * MICRO,
        sequence=constants.value("sequence_us", *factors) * MICRO,
        request=constants.value("request_us", *factors) * MICRO,
        link=link * 1e9 * constants.share("link", wires),
        link_wait=constants.value("link_us", wires, *factors) * MICRO,
        expert=constants.share("expert", *factors),
        expert_unpack=constants.share("expert_unpack", *factors),
        expert_read=constants.share("expert_read", *factors),
        expert_wait=constants.value("expert_us", *factors) * MICRO,
        balance=constants.share("balance", *factors),
        moved=constants.value("activations", *factors) / (gpu.bandwidth_gb_s * 1e9),
        vector=constants.value("vector", *factors) / gpu.vector_ops,
        tile=TILE,
        host=constants.value("step_us", *factors) * MICRO,
    )


def ideal_speed(gpu: Gpu) -> Speed:
    """Return the vendor's figures with no waits: the roofline."""
    return Speed(
        bandwidth=gpu.bandwidth_gb_s * 1e9,
        cache=gpu.bandwidth_gb_s * 1e9,
        compute={kind: _dense(gpu, kind) for kind in ARITHMETICS},
        attention=_dense(gpu, "bf16"),
        layer=0.0,
        sequence=0.0,
        request=0.0,
        link=float("inf"),
        link_wait=0.0,
        expert=1.0,
        expert_unpack=1.0,
        expert_read=1.0,
        expert_wait=0.0,
        balance=1.0,
        moved=0.0,
        vector=0.0,
        tile=0.0,
        host=0.0,
    )


def _dense(gpu: Gpu, arithmetic: str) -> float:
    """Return operations a second on the data sheet for an arithmetic."""
    return gpu.tflops(arithmetic) * 1e12


def _link(gpu: Gpu, work: Work, gpus_per_node: int) -> tuple[float, str]:
    """Return bytes a second in one direction (10^9) between the ranks, and the kind of link."""
    ranks = work.layout.tensor * (work.layout.data if work.layout.expert else 1)
    if ranks > gpus_per_node:
        return NODE_LINK_GB_S, "network"
    if gpu.nvlink_gb_s and ranks <= gpu.nvlink_domain:
        return gpu.nvlink_gb_s / 2, "nvlink"
    return gpu.pcie_gb_s / 2, "pcie"


def step(work: Work, speed: Speed, load: Load) -> Parts:
    """Return the time of one step of a rank.

    With pipeline stages it is the time to pass all of them with one micro-batch, so ``load`` is
    that of a micro-batch; the other stages work on the others meanwhile.
    """
    tokens = load.sequences + load.prompt_tokens
    sampled = load.sequences + load.prompts
    spread = work.layout.data
    read = sum(one.read for one in work.dense)
    busy = sum(2 * one.parameters * tokens / speed.compute[one.arithmetic] for one in work.dense)
    busy /= _filled(speed.tile * SINGLE, tokens)
    if sampled:
        read += work.head.read
        head = 2 * work.head.parameters * sampled / speed.compute[work.head.arithmetic]
        busy += head / _filled(speed.tile * SINGLE, sampled)
    touched = work.experts_touched(tokens * spread)
    filled = 1.0
    if touched:
        rows = tokens * spread * work.expert_top_k / (work.expert_count * touched)
        filled = _filled(speed.tile, rows)
    for one in work.experts:
        read += one.read * touched / speed.expert_read
        reached = speed.expert * filled
        if one.arithmetic == WEIGHT_ONLY:
            # Unpacking counts once: grouped kernels have a share of their own for it.
            reached *= speed.compute["bf16"] * speed.expert_unpack
        else:
            reached *= speed.compute[one.arithmetic]
        busy += 2 * one.parameters * tokens * spread / reached
    cache = max(
        load.sequences * load.cache_bytes / speed.cache,
        2 * load.sequences * load.cache_products / speed.attention,
    )
    if work.layout.expert and spread > 1:
        # Ranks meet at every expert layer, so all wait for the one with most tokens.
        read /= speed.balance
        busy /= speed.balance
        cache /= speed.balance
    weights = read / speed.bandwidth
    product = (weights**KNEE + busy**KNEE) ** (1 / KNEE)
    attention = 2 * load.prompt_products / speed.attention
    communication = _communication(work, speed, tokens)
    overhead = work.depth * speed.layer + work.expert_layers * speed.expert_wait
    overhead += _activations(work, speed, tokens)
    host = speed.host + load.sequences * speed.sequence + load.prompts * speed.request
    if speed.overlapped:
        host = max(0.0, host - product - cache - attention - communication - overhead)
    return Parts(
        weights=weights,
        arithmetic=busy,
        cache=cache,
        prompt_attention=attention,
        communication=communication,
        overhead=overhead + host,
        product=product,
    )


def _filled(tile: float, rows: float) -> float:
    """Return the share of the rows of a product's tiles that hold a token."""
    rows = max(1.0, rows)
    return rows / (rows + min(tile, rows) / 2)


def _activations(work: Work, speed: Speed, tokens: float) -> float:
    """Return the seconds in which activations pass from one product to the next.

    They are read and written, and scaled, rounded and packed outside of the matrix units; the
    longer of the two counts. Without expert parallelism every rank handles the tokens of all
    choices, each its slice of them.
    """
    layout = work.layout
    choices = tokens * layout.data * work.expert_top_k
    if layout.expert:
        choices /= layout.tensor * layout.data
    moved = (tokens * work.moved + choices * work.expert_moved) * speed.moved
    effort = (tokens * work.efforts + choices * work.expert_efforts) * speed.vector
    return max(moved, effort)


def _communication(work: Work, speed: Speed, tokens: float) -> float:
    layout = work.layout
    message = tokens * work.hidden_size * ACTIVATION_BYTES
    total = 0.0
    if layout.tensor > 1:
        # Two all-reduces a layer; a ring sends 2 (t - 1) / t of the message.
        sent = 2 * (layout.tensor - 1) / layout.tensor * message
        total += work.depth * (speed.link_wait + 2 * sent / speed.link)
    ranks = layout.tensor * layout.data
    if layout.expert and layout.data > 1 and work.expert_count:
        copies = min(work.expert_top_k, ranks) * (ranks - 1) / ranks
        sent = tokens * work.hidden_size * ALL_TO_ALL_BYTES * copies
        total += work.expert_layers * (speed.link_wait + sent / speed.link)
    if layout.pipeline > 1:
        total += (layout.pipeline - 1) * (speed.link_wait + message / speed.link)
    return total
