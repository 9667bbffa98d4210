"""Ask engines for one token now and then: only an answer proves that a model works."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

import msgspec

from tresor_gateway.catalogue import Catalogue, Model
from tresor_gateway.upstream.connection import EngineConnection
from tresor_gateway.upstream.pool import ConnectError, EnginePool, Replica

log = logging.getLogger(__name__)
_BODIES: Final[dict[str, tuple[bytes, dict[str, str | int | list[str]]]]] = {
    "chat": (b"/v1/completions", {"prompt": "ping", "max_tokens": 1}),
    "embedding": (b"/v1/embeddings", {"input": "ping"}),
    "rerank": (b"/v1/rerank", {"query": "ping", "documents": ["pong"]}),
    "moderation": (b"/v1/moderations", {"input": "ping"}),
}


class _Answer:
    """Waits for the status of one answer."""

    def __init__(self) -> None:
        self.status = 0
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def head(self, status: int, headers: dict[bytes, bytes]) -> None:
        self.status = status

    def data(self, data: bytes) -> None:
        return

    def end(self) -> None:
        if not self.ended.done():
            self.ended.set_result("" if self.status == 200 else f"status {self.status}")

    def failed(self, problem: str) -> None:
        if not self.ended.done():
            self.ended.set_result(problem)


class Prober:
    """Probes every replica that has not answered a request for a while."""

    def __init__(
        self, catalogue: Catalogue, pool: EnginePool, *, interval: float, timeout: float
    ) -> None:
        self.catalogue = catalogue
        self._pool = pool
        self._interval = interval
        self._timeout = timeout

    async def run(self) -> None:
        """For ever; a failed probe opens the replica's circuit, a good one closes it."""
        loop = asyncio.get_running_loop()
        next_round = loop.time() + self._interval
        while True:
            await asyncio.sleep(max(0.0, next_round - loop.time()))
            # A probe that waits must not move the next round.
            next_round = loop.time() + self._interval
            try:
                await self.round()
            except Exception:
                log.exception("probing engines")

    async def round(self) -> None:
        """All replicas once, at the same time.

        An engine that answered within the last half of the interval is left out, so one that stops
        to work is found within one and a half intervals and the probe's own time.
        """
        # A variant is a replica of two models if it may be asked by its own name, too.
        known = {
            (replica.engine.address, replica.served_name): (model, replica)
            for model in self.catalogue.models
            for replica in model.replicas
            if self._pool.is_quiet(replica.engine, self._interval / 2)
        }
        await asyncio.gather(*(self._probe(model, replica) for model, replica in known.values()))

    async def _probe(self, model: Model, replica: Replica) -> None:
        engine = replica.engine
        heard = engine.heard
        try:
            problem = await self._ask(model, replica)
        except TimeoutError:
            if engine.heard != heard:
                # It works, only not for us: answers of others have come meanwhile.
                log.info("engine %s: busy, no answer to a probe in time", engine.address)
            else:
                self._pool.hangs(engine, "probe: no answer in time")
            return
        if problem:
            self._pool.failed(engine, f"probe: {problem}")
        else:
            self._pool.succeeded(engine)

    async def _ask(self, model: Model, replica: Replica) -> str:
        """Return what was wrong with the answer, or nothing. TimeoutError: there was none."""
        target, values = _BODIES[model.task]
        body = msgspec.json.encode({"model": replica.served_name, **values})
        connection: EngineConnection | None = None
        try:
            async with asyncio.timeout(self._timeout):
                connection = await self._pool.connect(replica.engine)
                answer = _Answer()
                connection.send(
                    b"POST %b HTTP/1.1\r\nHost: %b\r\nContent-Type: application/json\r\n"
                    b"Connection: close\r\nContent-Length: %d\r\n\r\n%b"
                    % (target, replica.engine.host_header, len(body), body),
                    answer,
                )
                return await answer.ended
        except ConnectError as error:
            if isinstance(error.__cause__, TimeoutError):
                raise error.__cause__ from None
            return str(error)
        finally:
            if connection is not None:
                connection.close()
