"""A service under steady load: decoding sequences and slices of prompts share the engine's steps."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from .step import Load, Parts, Speed, decode_load, prompt_products, step
from .work import Work

# The part of an exponential wait that 95 of 100 stay below, in means.
EXPONENTIAL_95: Final = -math.log(0.05)
ROUNDS: Final = 40


@dataclass(frozen=True)
class Request:
    """The mean request: prompt tokens to compute, cached ones before them, tokens of the answer."""

    input_tokens: float
    output_tokens: float
    cached_tokens: float = 0.0

    @property
    def context(self) -> float:
        """Tokens in the cache when the answer is complete."""
        return self.cached_tokens + self.input_tokens + self.output_tokens


@dataclass(frozen=True)
class Steps:
    """Steps of a rank that carries ``sequences`` decoding ones: seconds without and with a slice.

    ``slice_tokens`` prompt tokens go into a step with a slice; ``slices`` such steps make a prompt.
    """

    plain: float
    mixed: float
    slice_tokens: float
    slices: float
    parts: Parts


@dataclass(frozen=True)
class Steady:
    """A steady state, in seconds: what a user sees, and how many answers a second complete.

    ``rate`` is that of the whole deployment, ``running`` the sequences in it (decoding or in their
    prompt), ``itl`` the time between two tokens with the slices of others in between.
    """

    running: float
    itl: float
    ttft: float
    ttft_95: float
    e2e: float
    e2e_95: float
    rate: float
    parts: Parts


def steps_of(work: Work, speed: Speed, request: Request, sequences: float, budget: float) -> Steps:
    """Return the steps of a rank with ``sequences`` decoding (of one micro-batch)."""
    start = request.cached_tokens + request.input_tokens
    size, products = decode_load(work, start, request.context)
    room = max(16.0, budget - sequences)
    slices = max(1.0, math.ceil(request.input_tokens / room))
    tokens = request.input_tokens / slices
    plain = Load(sequences=sequences, cache_bytes=size, cache_products=products)
    mixed = Load(
        sequences=sequences,
        cache_bytes=size,
        cache_products=products,
        prompt_tokens=tokens,
        prompt_products=prompt_products(work, request.cached_tokens, request.input_tokens) / slices,
        prompts=1.0 / slices,
    )
    # A lone prompt leaves no sequence to decode.
    parts = step(work, speed, plain if sequences else mixed)
    return Steps(
        plain=parts.total if sequences else 0.0,
        mixed=step(work, speed, mixed).total,
        slice_tokens=tokens,
        slices=slices,
        parts=parts,
    )


def filled_step(
    work: Work, speed: Speed, request: Request, sequences: float, budget: float
) -> Parts:
    """Return the mean step when every finished sequence is replaced at once.

    Each step brings ``sequences / output`` prompts; they are packed into as few steps as the budget
    allows, and the mean is taken over steps with and without prompts.
    """
    start = request.cached_tokens + request.input_tokens
    size, products = decode_load(work, start, request.context)
    prompts = sequences / max(1.0, request.output_tokens)
    tokens = prompts * request.input_tokens
    room = max(16.0, budget - sequences)
    packed = min(room, max(tokens, min(room, request.input_tokens)))
    share = min(1.0, tokens / packed) if packed else 0.0
    pairs = prompt_products(work, request.cached_tokens, request.input_tokens)
    per_token = pairs / max(1.0, request.input_tokens)
    common = {"sequences": sequences, "cache_bytes": size, "cache_products": products}
    plain = step(work, speed, Load(**common))
    mixed = step(
        work,
        speed,
        Load(
            **common,
            prompt_tokens=packed,
            prompt_products=packed * per_token,
            prompts=packed / max(1.0, request.input_tokens),
        ),
    )
    return blend(plain, mixed, share)


def prefill_seconds(work: Work, speed: Speed, request: Request, budget: float) -> float:
    """Return the time to compute one prompt when nothing else runs."""
    alone = steps_of(work, speed, request, 0.0, budget)
    return alone.mixed * alone.slices


def blend(plain: Parts, mixed: Parts, share: float) -> Parts:
    """Return the mean of two steps, ``share`` of them mixed."""

    def mean(left: float, right: float) -> float:
        return left * (1 - share) + right * share

    return Parts(
        weights=mean(plain.weights, mixed.weights),
        arithmetic=mean(plain.arithmetic, mixed.arithmetic),
        cache=mean(plain.cache, mixed.cache),
        prompt_attention=mean(plain.prompt_attention, mixed.prompt_attention),
        communication=mean(plain.communication, mixed.communication),
        overhead=mean(plain.overhead, mixed.overhead),
        product=mean(plain.product, mixed.product),
    )


def most_running(request: Request, budget: float) -> float:
    """Return how many sequences can decode while the prompts that follow pass the token budget."""
    return max(1.0, budget / (1.0 + request.input_tokens / max(1.0, request.output_tokens)))


def closed_loop(
    work: Work,
    speed: Speed,
    request: Request,
    users: float,
    slots: float,
    budget: float,
    *,
    arrival_wait: float = 1.0,
) -> Steady:
    """Return the steady state of ``users`` who each send the next request after an answer.

    A request that follows an answer reaches the engine just after a step began, and waits for all
    of it; ``arrival_wait`` is that wait in steps (a half for arrivals at any time). All figures are those of one replica. ``slots`` bounds the sequences that run; users beyond them
    wait, and their wait is part of the time to the first token.
    """
    stages = work.layout.pipeline
    ceiling = min(slots, most_running(request, budget * stages))
    running = max(1.0, min(users, ceiling))
    alone = steps_of(work, speed, request, 0.0, budget)
    decoding = running
    answer = max(0.0, request.output_tokens - 1)
    itl = ttft = service = wait_others = 0.0
    at = alone
    for _ in range(ROUNDS):
        micro = max(1.0, decoding / stages)
        at = steps_of(work, speed, request, micro, budget)
        added = max(0.0, at.mixed - at.plain)
        others = max(0.0, (decoding - 1) / stages)
        # Slices of other prompts per step of this micro-batch, at most one a step.
        slices = min(1.0, others / max(1.0, request.output_tokens) * at.slices)
        itl = at.plain + slices * added
        # Own prompt shares its steps with the decoding others and with prompts that came along.
        own = at.slices * (at.mixed if others > 0 else alone.mixed)
        wait_others = slices * at.slices * added
        residual = itl * arrival_wait if others > 0 else 0.0
        ttft = residual + own + wait_others
        service = ttft + answer * itl
        decoding_new = max(1.0, running * answer * itl / service) if service else 1.0
        if abs(decoding_new - decoding) < 1e-3 * decoding:
            break
        decoding = 0.5 * (decoding + decoding_new)
    rate = running / service
    queue = max(0.0, (users - running) / rate)
    spread = (0.45 * itl if running > 1 else 0.0) + (EXPONENTIAL_95 - 1) * wait_others
    return Steady(
        running=running,
        itl=itl,
        ttft=ttft + queue,
        ttft_95=ttft + spread + queue * (1 + min(0.5, 1.645 / math.sqrt(max(1.0, running)))),
        e2e=service + queue,
        e2e_95=service + spread + queue * (1 + min(0.5, 1.645 / math.sqrt(max(1.0, running)))),
        rate=rate,
        parts=at.parts,
    )
