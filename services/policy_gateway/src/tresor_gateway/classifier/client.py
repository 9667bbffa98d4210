"""One classifier: asked over the pool of its model's engines, a few questions at a time.

Whatever goes wrong ends in a ``GuardrailError`` for who asked: slow, gone, full, garbage.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Final

import msgspec

from tresor_gateway import config_schema as schema
from tresor_gateway.api.errors import ApiError
from tresor_gateway.catalogue import Model
from tresor_gateway.classifier import kinds
from tresor_gateway.classifier.kinds import Case, ClassifierError
from tresor_gateway.guardrails.errors import GuardrailError, GuardrailTimeoutError
from tresor_gateway.metrics.gateway import GatewayMetrics
from tresor_gateway.upstream.forward import Forward
from tresor_gateway.upstream.pool import EnginePool, Replica

log = logging.getLogger(__name__)
_MAX_KNOWN: Final = 4096
_ENCODER: Final = msgspec.json.Encoder()

Categories = tuple[str, ...]
Done = Callable[["Categories | GuardrailError"], None]


class Classifier:
    """Asks, remembers within a tenant, and bounds what is asked at a time."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        pool: EnginePool,
        settings: schema.Classifier,
        model: Model,
        *,
        upstream: schema.Upstream,
        metrics: GatewayMetrics,
    ) -> None:
        self.settings = settings
        self.model = model
        self._loop = loop
        self._pool = pool
        seconds = settings.timeout_milliseconds / 1000
        self._seconds = seconds
        self._upstream = msgspec.structs.replace(
            upstream,
            total_seconds=seconds,
            first_byte_seconds=seconds,
            connect_seconds=min(seconds, upstream.connect_seconds),
            max_response_bytes=256 << 10,
        )
        self._metrics = metrics
        for problem in ("late", "failed", "full"):
            # Without a 0 before it, the first failure would be no increase.
            metrics.classifier_failures.add(model.name, problem, amount=0)
        self._running = 0
        self._waiting: deque[Asked] = deque()
        self._known: dict[bytes, Categories] = {}

    def ask(self, case: Case, tenant: bytes, request_id: bytes, done: Done) -> Asked | None:
        """Judge a case; ``done`` hears the verdict once, maybe before this returns (then None)."""
        digest = hashlib.blake2b(
            _ENCODER.encode([case.request, case.answer]), digest_size=16, key=tenant[:64]
        ).digest()
        known = self._known.get(digest)
        if known is not None:
            done(known)
            return None
        asked = Asked(self, case, digest, request_id, done)
        if self._running < self.settings.max_concurrent:
            self._begin(asked)
        elif len(self._waiting) >= self.settings.max_waiting:
            self._metrics.classifier_failures.add(self.model.name, "full")
            asked.close()
            done(ClassifierError("too many texts wait for the classifier"))
            return None
        else:
            self._waiting.append(asked)
        return asked

    # --- for Asked ----------------------------------------------------------------------------

    def _begin(self, asked: Asked) -> None:
        self._running += 1
        asked.begin(self._forward(asked))
        replicas = self._pool.usable(self.model.replicas, None)
        replicas = [*replicas, *self._pool.doubtful(self.model.replicas, replicas)]
        asked.start(replicas)

    def _forward(self, asked: Asked) -> Forward:
        question = kinds.question(self.settings, asked.case)

        def body(served_name: str) -> bytes:
            asked.served_name = served_name
            return _ENCODER.encode({**question.body, "model": served_name})

        return Forward(
            self._loop,
            self._pool,
            self._upstream,
            asked,
            target=question.target,
            request_id=asked.request_id,
            stream=False,
            usage_wanted=True,
            body=body,
        )

    def over(self, asked: Asked, found: Categories | GuardrailError | None) -> None:
        """``asked`` has its verdict, has failed, or (None) nobody waits for it any more."""
        if asked.began is None:
            if asked in self._waiting:
                self._waiting.remove(asked)
        else:
            self._running -= 1
            self._metrics.classifier_seconds.observe(
                time.monotonic() - asked.began, self.model.name
            )
        if isinstance(found, tuple):
            if len(self._known) >= _MAX_KNOWN:
                self._known.pop(next(iter(self._known)))
            self._known[asked.digest] = found
        elif found is not None:
            late = isinstance(found, GuardrailTimeoutError)
            self._metrics.classifier_failures.add(self.model.name, "late" if late else "failed")
            log.warning("classifier %s: %s", self.model.name, found)
        while self._waiting and self._running < self.settings.max_concurrent:
            self._begin(self._waiting.popleft())

    def late(self, asked: Asked, seconds: float) -> asyncio.TimerHandle:
        """Call ``asked.too_late`` then."""
        return self._loop.call_later(seconds, asked.too_late)

    @property
    def seconds(self) -> float:
        """How long a question may take, waiting included."""
        return self._seconds


class Asked:
    """One question on its way (a ``Receiver``); ends once."""

    __slots__ = (
        "_done",
        "_forward",
        "_owner",
        "_timer",
        "began",
        "case",
        "digest",
        "request_id",
        "served_name",
    )

    def __init__(
        self, owner: Classifier, case: Case, digest: bytes, request_id: bytes, done: Done
    ) -> None:
        self._owner = owner
        self._done: Done | None = done
        self._forward: Forward | None = None
        self.case = case
        self.digest = digest
        self.request_id = request_id
        self.served_name = ""
        self.began: float | None = None
        self._timer: asyncio.TimerHandle | None = owner.late(self, owner.seconds)

    @property
    def pending(self) -> bool:
        """Whether the verdict is still to come."""
        return self._done is not None

    def begin(self, forward: Forward) -> None:
        """It is this question's turn."""
        self._forward = forward
        self.began = time.monotonic()

    def start(self, replicas: list[Replica]) -> None:
        """Go."""
        if self._forward is not None:
            self._forward.start(replicas)

    def cancel(self) -> None:
        """Nobody wants to know any more."""
        if self._done is not None:
            self.close()
            self._owner.over(self, None)

    def close(self) -> None:
        """Let go of everything."""
        self._done = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._forward is not None:
            self._forward.cancel()

    def too_late(self) -> None:
        """The time is over."""
        self._end(GuardrailTimeoutError("the classifier did not answer in time"))

    # --- Receiver -------------------------------------------------------------------------------

    def answer(self, body: bytes) -> None:
        """The classifier's answer."""
        try:
            found = kinds.verdict(self._owner.settings, body, self.served_name)
        except GuardrailError as error:
            self._end(error)
        else:
            self._end(found)

    def refused(self, error: ApiError) -> None:
        """No answer."""
        if error.reason == "upstream_timeout":
            self.too_late()
        else:
            self._end(ClassifierError(f"the classifier cannot be asked ({error.reason})"))

    def stream_data(self, data: bytes) -> None:
        """Never: no stream was asked for."""

    def stream_end(self) -> None:
        """Never: no stream was asked for."""

    def stream_cut(self, error: ApiError) -> None:
        """Never: no stream was asked for."""

    def _end(self, found: Categories | GuardrailError) -> None:
        done = self._done
        if done is None:
            return
        self.close()
        self._owner.over(self, found)
        done(found)
