"""A latency question with everything resolved, and its answer in seconds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

from ..gpu import Gpu
from ..model.shape import ModelShape
from .constants import Constants
from .engines import Engine
from .maximum import Maximum, fullest, fullest_within
from .open_loop import open_loop
from .static import run_batch
from .steady import Rank, Request, Steady, closed_loop
from .step import Load, Parts, Speed, decode_load, engine_speed, ideal_speed, step
from .work import Layout, Work, count_work
from .workloads import Limits

# Metric kinds, and the measurement protocol under which constants are fitted.
PROTOCOLS: Final = {
    "online_closed_loop": "online",
    "online_open_loop": "online",
    "offline_static_batch": "static",
    "offline_max_throughput": "maximum",
    "mlperf_offline": "mlperf",
    "mlperf_server": "mlperf",
    "mlperf_interactive": "mlperf",
}
KINDS: Final = tuple(PROTOCOLS)


@dataclass(frozen=True)
class Question:
    """What is asked, per replica where not said otherwise.

    ``pool_bytes`` is the KV cache of one rank. ``replicas`` deployments share ``users`` (closed
    loop, static batch) or ``rate`` requests a second (open loop) evenly. ``model`` and
    ``quantization`` are what ``shape`` was described from.
    """

    shape: ModelShape
    gpu: Gpu
    layout: Layout
    engine: Engine
    generation: str
    kind: str
    request: Request
    users: float
    rate: float
    max_num_seqs: int
    budget: int
    pool_bytes: float
    kv_bits: float
    gpus_per_node: int
    replicas: int = 1
    limits: Limits | None = None
    overlapped: bool = False
    eager: bool = False
    model: Any = None
    quantization: str | None = None


@dataclass(frozen=True)
class Answer:
    """Seconds and tokens a second; ``queued`` users wait for a slot. None: not defined.

    ``kept`` is false where even one sequence exceeds the limits of a benchmark.
    """

    ttft: float | None
    ttft_95: float | None
    itl: float | None
    e2e: float | None
    e2e_95: float | None
    tokens_per_second: float | None
    running: float
    slots: float
    queued: float
    parts: Parts
    stable: bool = True
    kept: bool = True


def bytes_per_sequence(work: Work, length: float, *, windows: bool = True) -> float:
    """Return the cache bytes of one rank that a sequence of that length holds.

    Without ``windows`` the engine keeps all tokens of layers that look at the last ones only.
    """
    total = 0.0
    for cache in work.caches:
        whole = cache.window is None or not windows
        held = length if whole else min(length, cache.window or length)
        # A recurrent state is counted twice in work (read and written), and held once.
        total += cache.per_token * held + cache.fixed / 2
    return total


def work_of(question: Question) -> Work:
    """Count the work of one rank."""
    return count_work(question.shape, question.gpu, question.layout, question.kv_bits)


def answer(question: Question, constants: Constants, work: Work | None = None) -> Answer:
    """Answer under fitted constants."""
    counted = work if work is not None else work_of(question)
    factors = (
        question.engine.name,
        f"{question.engine.name}_{question.generation}",
        PROTOCOLS[question.kind],
        *(("eager",) if question.eager else ()),
    )
    speed = engine_speed(question.gpu, constants, factors, counted, question.gpus_per_node)
    speed = replace(speed, overlapped=question.overlapped)
    occupancy = constants.share("occupancy", question.engine.name, question.kind)
    return _answer(question, counted, speed, occupancy)


def ideal_answer(question: Question, work: Work | None = None) -> Answer:
    """Answer with the vendor's figures and no waits: nothing real is better."""
    counted = work if work is not None else work_of(question)
    return _answer(question, counted, ideal_speed(question.gpu), 1.0)


def _answer(question: Question, work: Work, speed: Speed, occupancy: float) -> Answer:
    data = work.layout.data
    request = question.request
    held = request.cached_tokens + request.input_tokens
    held += request.output_tokens * question.engine.fill
    windows = question.engine.frees_windows or PROTOCOLS[question.kind] == "mlperf"
    size = bytes_per_sequence(work, held, windows=windows)
    room = question.pool_bytes / max(1.0, size)
    slots = max(1.0, min(float(question.max_num_seqs), float(int(room)))) * data
    if question.kind == "offline_static_batch":
        return _static(question, work, speed, slots)
    share = question.replicas * data
    rank = Rank(work, speed, request, question.budget)
    if question.kind == "online_closed_loop":
        steady = closed_loop(rank, users=question.users / share, slots=slots / data)
        return _steady(question, steady, slots)
    if question.kind == "online_open_loop":
        settled, stable = open_loop(rank, rate=question.rate / share, slots=slots / data)
        found = _steady(question, settled, slots)
        return found if stable else _saturated(found)
    if question.limits is None:
        return _maximum(question, fullest(rank, slots / data), slots)
    state = fullest_within(rank, slots / data, question.limits)
    return _maximum(question, replace(state, rate=state.rate * occupancy), slots)


def _static(question: Question, work: Work, speed: Speed, slots: float) -> Answer:
    request = question.request
    whole = request.input_tokens + request.output_tokens
    share = question.replicas * work.layout.data
    per_replica = max(1, -(-int(question.users) // share))
    pool_tokens = question.pool_bytes / max(1.0, bytes_per_sequence(work, whole)) * whole
    batch = run_batch(
        work,
        speed,
        requests=per_replica,
        input_tokens=request.input_tokens,
        output_tokens=request.output_tokens,
        slots=question.max_num_seqs,
        pool_tokens=pool_tokens,
        budget=question.budget,
        reserve_all=question.engine.reserve_all,
    )
    size, products = decode_load(work, request.input_tokens, whole)
    parts = step(work, speed, Load(batch.largest, size, products))
    itl = batch.decode / max(1.0, request.output_tokens - 1)
    return Answer(
        ttft=batch.first_token,
        ttft_95=max(batch.first_token, batch.prefill),
        itl=itl,
        e2e=batch.total,
        e2e_95=batch.total,
        tokens_per_second=question.users * request.output_tokens / batch.total,
        running=batch.largest * share,
        slots=slots * question.replicas,
        queued=max(0.0, question.users - batch.largest * share),
        parts=parts,
    )


def _steady(question: Question, state: Steady, slots: float) -> Answer:
    share = question.replicas * question.layout.data
    return Answer(
        ttft=state.ttft,
        ttft_95=state.ttft_95,
        itl=state.itl,
        e2e=state.e2e,
        e2e_95=state.e2e_95,
        tokens_per_second=state.rate * share * question.request.output_tokens,
        running=state.running * share,
        slots=slots * question.replicas,
        queued=max(0.0, question.users - state.running * share),
        parts=state.parts,
    )


def _saturated(full: Answer) -> Answer:
    """Return the answer when more requests arrive than complete: no latency exists."""
    return replace(full, ttft=None, ttft_95=None, e2e=None, e2e_95=None, stable=False)


def _maximum(question: Question, state: Maximum, slots: float) -> Answer:
    share = question.replicas * question.layout.data
    return Answer(
        ttft=None,
        ttft_95=None,
        itl=state.step,
        e2e=None,
        e2e_95=None,
        tokens_per_second=state.rate * share * question.request.output_tokens,
        running=state.running * share,
        slots=slots * question.replicas,
        queued=0.0,
        parts=state.parts,
        kept=state.kept,
    )
