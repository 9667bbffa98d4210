"""A service under steady load: decoding sequences and slices of prompts share the steps."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from .step import Load, Parts, Speed, decode_load, prompt_products, step
from .work import Work

# The part of an exponential wait that 95 of 100 stay below, in means.
EXPONENTIAL_95: Final = -math.log(0.05)
NORMAL_95: Final = 1.645
ROUNDS: Final = 40
CLOSE: Final = 1e-3
# Prompts get at least this many tokens of a step, and this share of it, however many others run.
LEAST_ROOM: Final = 16.0
LEAST_SHARE: Final = 0.1


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


@dataclass(frozen=True)
class Rank:
    """One rank at work on requests of one kind, with at most ``budget`` tokens a step."""

    work: Work
    speed: Speed
    request: Request
    budget: float

    def room(self, sequences: float) -> float:
        """Return how many prompt tokens fit beside the decoding sequences."""
        return max(LEAST_ROOM, self.budget - sequences)

    def step(self, sequences: float, prompt_tokens: float = 0.0) -> Parts:
        """Return a step with that many decoding sequences and prompt tokens."""
        request = self.request
        start = request.cached_tokens + request.input_tokens
        size, products = decode_load(self.work, start, request.context)
        share = prompt_tokens / max(1.0, request.input_tokens)
        pairs = prompt_products(self.work, request.cached_tokens, request.input_tokens)
        load = Load(
            sequences=sequences,
            cache_bytes=size,
            cache_products=products,
            prompt_tokens=prompt_tokens,
            prompt_products=pairs * share,
            prompts=share,
        )
        return step(self.work, self.speed, load)

    def mean_step(self, sequences: float, prompts: float) -> Parts:
        """Return the mean step when ``prompts`` prompts come with each.

        They are packed into as few steps as the budget allows; the mean is taken over steps with
        and without prompts.
        """
        tokens = prompts * self.request.input_tokens
        room = self.room(sequences)
        packed = min(room, max(tokens, min(room, self.request.input_tokens)))
        share = min(1.0, tokens / packed) if packed else 0.0
        return blend(self.step(sequences), self.step(sequences, packed), share)

    def alone(self) -> float:
        """Return the seconds to compute one prompt when nothing else runs."""
        slices = max(1.0, math.ceil(self.request.input_tokens / self.room(0.0)))
        return self.step(0.0, self.request.input_tokens / slices).total * slices

    def beside(self, sequences: float, prompts: float) -> float:
        """Return the seconds to compute one prompt beside decoding sequences and other prompts.

        ``prompts`` others come with each step and take their share of its room.
        """
        room = self.room(sequences)
        others = min(prompts * self.request.input_tokens, room * (1 - LEAST_SHARE))
        steps = max(1.0, math.ceil(self.request.input_tokens / (room - others)))
        return self.step(sequences, self.request.input_tokens / steps + others).total * steps


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


def closed_loop(rank: Rank, *, users: float, slots: float, arrival_wait: float = 1.0) -> Steady:
    """Return the steady state of ``users`` who each send the next request after an answer.

    A request that follows an answer reaches the engine just after a step began, and waits for all
    of it; ``arrival_wait`` is that wait in steps (a half for arrivals at any time).

    All figures are those of one replica. ``slots`` bounds the sequences that run; users beyond them
    wait, and their wait is part of the time to the first token.
    """
    request, stages = rank.request, rank.work.layout.pipeline
    ceiling = min(slots, most_running(request, rank.budget * stages))
    running = max(1.0, min(users, ceiling))
    answer = max(0.0, request.output_tokens - 1)
    alone = rank.alone()
    decoding = running
    parts = rank.step(max(1.0, running / stages))
    itl = ttft = service = own = 0.0
    for _ in range(ROUNDS):
        micro = max(1.0, decoding / stages)
        prompts = max(0.0, (decoding - 1) / stages) / max(1.0, request.output_tokens)
        parts = rank.mean_step(micro, prompts)
        itl = parts.total
        own = rank.beside(micro, prompts) if prompts else alone
        ttft = own + (itl * arrival_wait if prompts else 0.0)
        service = ttft + answer * itl
        wanted = max(1.0, running * answer * itl / service)
        if abs(wanted - decoding) < CLOSE * decoding:
            break
        decoding = (decoding + wanted) / 2
    rate = running / service
    queue = max(0.0, (users - running) / rate)
    # A prompt that meets others waits for theirs; a queue empties one finished answer at a time.
    late = 0.0 if running <= 1 else 0.45 * itl + (EXPONENTIAL_95 - 1) * max(0.0, own - alone)
    queue_95 = queue * (1 + min(0.5, NORMAL_95 / math.sqrt(max(1.0, running))))
    return Steady(
        running=running,
        itl=itl,
        ttft=ttft + queue,
        ttft_95=ttft + late + queue_95,
        e2e=service + queue,
        e2e_95=service + late + queue_95,
        rate=rate,
        parts=parts,
    )
