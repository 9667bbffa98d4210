"""One batch of equal requests that all arrive at once: how offline benchmarks measure.

The batch runs from the first prompt to the last token. What does not fit the KV cache at once runs
in turns, as the engine's scheduler does it: engines that reserve the whole request up front admit
fewer at a time, engines that reserve only the prompt admit more and preempt when the pool is full.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

from .step import Load, Speed, decode_load, prompt_products, step
from .work import Work

# More events than any batch that makes progress can have; beyond it the pool cannot hold one.
MAX_EVENTS: Final = 100_000


@dataclass
class Cohort:
    """Requests of equal length that run together."""

    count: int
    length: float
    remaining: float


@dataclass(frozen=True)
class Batch:
    """The course of a batch, in seconds."""

    total: float
    first_token: float
    prefill: float
    decode: float
    preempted: int
    largest: int


@dataclass
class _Clock:
    now: float = 0.0
    prefill: float = 0.0
    decode: float = 0.0
    preempted: int = 0
    first_token: float = 0.0
    started: int = 0
    largest: int = 0


def run_batch(
    work: Work,
    speed: Speed,
    *,
    requests: int,
    input_tokens: float,
    output_tokens: float,
    slots: int,
    pool_tokens: float,
    budget: float,
    reserve_all: bool,
) -> Batch:
    """Run ``requests`` equal requests through a pool of ``pool_tokens`` tokens.

    ``slots`` bounds the running sequences, ``budget`` the prompt tokens of a step.
    """
    clock = _Clock()
    waiting: deque[Cohort] = deque([Cohort(requests, input_tokens, output_tokens)])
    running: list[Cohort] = []
    whole = input_tokens + output_tokens
    for _ in range(MAX_EVENTS):
        admitted = _admit(waiting, running, slots, pool_tokens, whole if reserve_all else None)
        for cohort in admitted:
            _prefill(
                work,
                speed,
                cohort=cohort,
                budget=budget,
                clock=clock,
                input_tokens=input_tokens,
            )
        running += admitted
        if not running:
            break
        _advance(
            work,
            speed,
            running=running,
            waiting=waiting,
            clock=clock,
            pool_tokens=None if reserve_all else pool_tokens,
        )
    return Batch(
        total=clock.now,
        first_token=clock.first_token / max(1, clock.started),
        prefill=clock.prefill,
        decode=clock.decode,
        preempted=clock.preempted,
        largest=clock.largest,
    )


def _admit(
    waiting: deque[Cohort],
    running: list[Cohort],
    slots: int,
    pool_tokens: float,
    whole: float | None,
) -> list[Cohort]:
    """Take as many waiting requests as slots and pool allow; at least one when none runs."""
    active = sum(cohort.count for cohort in running)
    if whole is None:
        used = sum(cohort.count * (cohort.length + 1) for cohort in running)
    else:
        used = active * whole
    admitted: list[Cohort] = []
    while waiting and active < slots:
        head = waiting[0]
        need = whole if whole is not None else head.length + 1
        fits = min(head.count, slots - active, int(max(0.0, pool_tokens - used) // need))
        if fits == 0 and active == 0:
            fits = 1
        if fits <= 0:
            break
        admitted.append(Cohort(fits, head.length, head.remaining))
        active += fits
        used += fits * need
        head.count -= fits
        if head.count == 0:
            waiting.popleft()
        else:
            break
    return admitted


def _prefill(
    work: Work, speed: Speed, *, cohort: Cohort, budget: float, clock: _Clock, input_tokens: float
) -> None:
    """Process the prompts of a cohort in steps of at most ``budget`` tokens."""
    stages = work.layout.pipeline
    tokens = cohort.count * cohort.length / stages
    steps = max(1.0, -(-tokens // budget))
    share = cohort.count / stages / steps
    load = Load(
        prompt_tokens=tokens / steps,
        prompt_products=prompt_products(work, 0, cohort.length) * share,
        prompts=share,
    )
    one = step(work, speed, load).total
    if cohort.length <= input_tokens:
        clock.first_token += cohort.count * (clock.now + one * (steps + 1) / 2)
        clock.started += cohort.count
    clock.now += one * steps
    clock.prefill += one * steps
    cohort.length += 1
    cohort.remaining -= 1


def _advance(
    work: Work,
    speed: Speed,
    *,
    running: list[Cohort],
    waiting: deque[Cohort],
    clock: _Clock,
    pool_tokens: float | None,
) -> None:
    """Decode until a cohort ends or the pool is full; then let it go, or preempt one request."""
    active = sum(cohort.count for cohort in running)
    clock.largest = max(clock.largest, active)
    steps = min(cohort.remaining for cohort in running)
    full = False
    if pool_tokens is not None:
        free = pool_tokens - sum(cohort.count * cohort.length for cohort in running)
        room = max(0.0, free // active)
        if room < steps and active > 1:
            steps, full = room, True
    if steps > 0:
        seconds = _decode(work, speed, running, steps, active)
        clock.now += seconds
        clock.decode += seconds
    for cohort in running:
        cohort.length += steps
        cohort.remaining -= steps
    running[:] = [cohort for cohort in running if cohort.remaining > 0]
    if full and running:
        last = running[-1]
        waiting.appendleft(Cohort(1, last.length, last.remaining))
        clock.preempted += 1
        last.count -= 1
        if last.count == 0:
            running.pop()


def _decode(work: Work, speed: Speed, running: list[Cohort], steps: float, active: int) -> float:
    size = products = 0.0
    for cohort in running:
        one_size, one_products = decode_load(work, cohort.length, cohort.length + steps)
        size += one_size * cohort.count
        products += one_products * cohort.count
    load = Load(
        sequences=max(1.0, active / work.layout.pipeline),
        cache_bytes=size / active,
        cache_products=products / active,
    )
    return step(work, speed, load).total * steps
