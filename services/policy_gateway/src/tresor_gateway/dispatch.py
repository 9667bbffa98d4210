"""A request that was let through: whom to ask, with which body, and how to ask once more.

An object of its own and no functions inside of a function: those would know each other and their
request, and everything about it would wait for the garbage collector.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tresor_gateway import config_schema as schema
from tresor_gateway.api import request
from tresor_gateway.api.endpoints import Endpoint
from tresor_gateway.api.parameters import ChatRequest
from tresor_gateway.call import Call
from tresor_gateway.catalogue import Model
from tresor_gateway.guarded import with_complaint
from tresor_gateway.guardrails.pipeline import Guard, Part
from tresor_gateway.identity.authenticator import Identity
from tresor_gateway.upstream.forward import Forward, Receiver
from tresor_gateway.upstream.pool import EnginePool, Replica

if TYPE_CHECKING:
    from tresor_gateway.gateway import Gateway


@dataclass(frozen=True)
class Means:
    """What all requests are sent with."""

    loop: asyncio.AbstractEventLoop
    pool: EnginePool
    upstream: schema.Upstream


class Dispatch:
    """Sends one request to engines, as often as its answer takes."""

    __slots__ = (
        "_affinity",
        "_call",
        "_endpoint",
        "_gateway",
        "_guard",
        "_identity",
        "_means",
        "_model",
        "_prepared",
        "receiver",
    )

    def __init__(
        self,
        gateway: Gateway,
        means: Means,
        call: Call,
        *,
        guard: Guard,
        endpoint: Endpoint,
        identity: Identity,
        model: Model,
        prepared: request.Prepared,
        affinity: bytes | None,
    ) -> None:
        self._gateway = gateway
        self._means = means
        self._call = call
        self._guard = guard
        self._endpoint = endpoint
        self._identity = identity
        self._model = model
        self._prepared = prepared
        self._affinity = affinity
        # Who reads the answer; the one who makes it needs us first.
        self.receiver: Receiver = call

    def order(self) -> list[Replica]:
        """Whom to ask, the best first.

        Raises:
            ApiError: the queue is full.
        """
        found = self._free()
        if not found:
            raise self._gateway.queue_full(self._model)
        return found

    def start(self, order: list[Replica]) -> None:
        """Ask; nobody is asked for somebody who has left."""
        call, exchange, means = self._call, self._call.exchange, self._means
        if not exchange.open or call.over:
            return
        prepared = self._prepared
        forward = call.forward = Forward(
            means.loop,
            means.pool,
            means.upstream,
            self.receiver,
            target=self._endpoint.upstream,
            request_id=exchange.request_id,
            stream=prepared.stream,
            usage_wanted=prepared.usage_wanted,
            body=self.body,
            more_headers=b"" if call.trace is None else call.trace.header,
        )
        exchange.on_pause = forward.pause
        exchange.on_resume = forward.resume
        forward.start(order)

    def begin(self) -> None:
        """Ask whoever is free now.

        Raises:
            ApiError: the queue is full.
        """
        self.start(self.order())

    def body(self, served_name: str) -> bytes:
        """The body for an engine that calls the model ``served_name``."""
        return self._prepared.body(served_name, self._identity.cache_salt)

    def ask_again(self, answer: str, problem: str) -> None:
        """Show the model its answer and what is wrong with it."""
        parsed = self._prepared.request
        if not isinstance(parsed, ChatRequest):
            return
        # What was put back for the client must not reach the engine.
        masked = self._guard.incoming([Part(answer, False), Part(problem, False)])
        with_complaint(parsed, *(masked or (answer, problem)))
        self.start(self._free())

    def _free(self) -> list[Replica]:
        return self._gateway.replicas(self._model, self._endpoint, self._identity, self._affinity)
