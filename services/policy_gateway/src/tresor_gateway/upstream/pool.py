"""Replicas of models: which one is next, which one is healthy, which connection is free."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import urlsplit

import msgspec

from tresor_gateway import config_schema as schema
from tresor_gateway.deadline import Deadlines
from tresor_gateway.outbox import Outbox
from tresor_gateway.routing.affinity import score
from tresor_gateway.upstream.connection import EngineConnection
from tresor_gateway.upstream.tls import client_context

log = logging.getLogger(__name__)
_AVERAGE_SHARE = 0.1


class Asking(Protocol):
    """A request that an engine is working on."""

    def abandon(self, problem: str) -> None:
        """Leave the engine: go on elsewhere, or say that the answer is lost."""


@dataclass(eq=False)
class Engine:
    """One engine address; shared by all models it serves."""

    host: str
    port: int
    tls: bool
    in_flight: int = 0
    failures: int = 0
    down_until: float = 0.0
    last_success: float = 0.0
    # How long answers take here (seconds), a moving average.
    average: float = 1.0
    idle: list[EngineConnection] = field(default_factory=list)
    requests: set[Asking] = field(default_factory=set)
    # Pieces of answers, of any request: it moves while the engine works.
    heard: int = 0
    # By whose word it is the one it should be; none for plain http.
    trust: ssl.SSLContext | None = None
    # ``host:port`` as it appears in messages, records and metrics.
    address: str = field(init=False)
    # The Host header of requests to it.
    host_header: bytes = field(init=False)

    def __post_init__(self) -> None:
        """Write the address once."""
        self.address = f"{self.host}:{self.port}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        self.host_header = f"{host}:{self.port}".encode()


@dataclass(frozen=True)
class Replica:
    """An engine and the name it serves one model under."""

    engine: Engine
    served_name: str
    model: str = ""
    weight: int = 100
    max_requests: int | None = None
    # What it serves in the model's place; empty for the model itself.
    variant: str = ""
    # Of the artefact it serves.
    digest: str = ""
    # What its figures are compared under; empty where nothing is tried beside the model.
    counted: str = ""
    # The model's own come before its variants, and those without weight come last.
    rank: int = 0

    @property
    def full(self) -> bool:
        """Whether the engine has all the requests it may have from this worker."""
        return self.max_requests is not None and self.engine.in_flight >= self.max_requests

    @property
    def load(self) -> float:
        """Requests in relation to the weight."""
        return self.engine.in_flight / max(self.weight, 1)


class ConnectError(Exception):
    """No connection to this engine."""


class EnginePool:
    """All engines of the gateway with their idle connections and their health."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        settings: schema.Upstream,
        tls: ssl.SSLContext | None,
        outbox: Outbox | None = None,
    ) -> None:
        self._loop = loop
        self._settings = settings
        self._tls = tls
        self._outbox = outbox
        self._engines: dict[str, Engine] = {}
        self._turn = 0
        self._closed = False
        self.deadlines = Deadlines(loop)

    @property
    def engines(self) -> Iterable[Engine]:
        """Every engine, for metrics."""
        return self._engines.values()

    def replica(
        self, config: schema.Replica, model: str, digest: str = "", *, compared: bool = False
    ) -> Replica:
        """The replica that a configuration entry describes.

        ``digest`` is that of the model, which a variant never has. ``compared`` says that the model
        has variants.

        Raises:
            ConfigError: its own authority cannot be read.
        """
        parts = urlsplit(config.url)
        engine = Engine(parts.hostname or "", parts.port or 0, parts.scheme == "https")
        engine = self._engines.setdefault(engine.address, engine)
        # Read anew with every configuration, so that a new authority needs no restart.
        engine.trust = self._trust(config)
        variant = config.variant or ""
        return Replica(
            engine,
            config.served_name or model,
            model,
            config.weight,
            config.max_requests,
            variant,
            config.artefact_digest or ("" if variant else digest),
            (variant or model) if compared else "",
            2 * int(config.weight == 0) + int(variant != ""),
        )

    def _trust(self, config: schema.Replica) -> ssl.SSLContext | None:
        """Raises ConfigError if its authority cannot be read."""
        if config.ca_file is None:
            return self._tls
        return client_context(msgspec.structs.replace(self._settings, ca_file=config.ca_file))

    def is_healthy(self, engine: Engine) -> bool:
        """Whether requests may go there: behind its cool-down an engine gets one as a trial."""
        if engine.failures == 0:
            return True
        return engine.down_until <= self._loop.time() and engine.in_flight == 0

    def is_quiet(self, engine: Engine, seconds: float) -> bool:
        """Whether nothing has proved for a while that the engine works."""
        return engine.last_success + seconds <= self._loop.time()

    def usable(self, replicas: Iterable[Replica], key: bytes | None = None) -> list[Replica]:
        """Healthy replicas with room, the best first.

        With a key the replica that the key belongs to is the best, unless it has clearly more to
        do than another one of the same variant; otherwise the one with the least load, in turn
        among equals. After a variant the model's own are asked. A replica whose weight is 0 gets
        requests only when there is no other.
        """
        found = [r for r in replicas if not r.full and self.is_healthy(r.engine)]
        if len(found) < 2:
            return found
        self._turn += 1
        turn = self._turn % len(found)
        found = found[turn:] + found[:turn]
        found.sort(key=lambda replica: (replica.rank, replica.load))
        if key is None:
            return found
        weighted = [replica for replica in found if replica.weight]
        home = max(weighted, key=lambda r: score(key, r.engine.address, r.weight), default=found[0])
        best = found[0]
        if home.variant != best.variant:
            # However busy it is: its share stays what it is, and nobody changes the model half-way.
            best = next(r for r in found if r.variant == home.variant)
        if home.engine.in_flight - best.engine.in_flight <= self._settings.affinity_slack:
            best = home
        if best is not found[0]:
            found.remove(best)
            found.insert(0, best)
        return found

    def doubtful(self, replicas: Iterable[Replica], usable: Sequence[Replica]) -> list[Replica]:
        """Replicas in their cool-down, the next to leave it first: a last resort.

        They are those with room that are not among the usable ones. Asking again who is healthy
        would lose one whose cool-down has ended since.
        """
        found = [r for r in replicas if not r.full and not any(r is other for other in usable)]
        if len(found) > 1:
            found.sort(key=lambda replica: replica.engine.down_until)
        return found

    def idle_connection(self, engine: Engine) -> EngineConnection | None:
        """A connection that was used before and is still good."""
        oldest = self._loop.time() - self._settings.idle_connection_seconds
        while engine.idle:
            connection = engine.idle.pop()
            if connection.alive and connection.idle_since >= oldest:
                return connection
            connection.close()
        return None

    async def connect(self, engine: Engine) -> EngineConnection:
        """A new connection.

        Raises:
            ConnectError: refused, unreachable, too slow, or not the engine it should be.
        """
        if engine.tls and engine.trust is None:
            raise ConnectError("no client certificate is configured")
        connection = EngineConnection(lambda gone: self._forget(engine, gone), self._outbox)
        try:
            async with asyncio.timeout(self._settings.connect_seconds):
                await self._loop.create_connection(
                    connection.protocol,
                    engine.host,
                    engine.port,
                    ssl=engine.trust if engine.tls else None,
                    server_hostname=engine.host if engine.tls else None,
                )
        except TimeoutError as late:
            raise ConnectError("connecting took too long") from late
        except (OSError, ssl.SSLError) as error:
            raise ConnectError(f"{type(error).__name__}: {error}") from error
        return connection

    def release(self, engine: Engine, connection: EngineConnection) -> None:
        """Keep a connection for the next request, or close it."""
        if (
            self._closed
            or not connection.reusable
            or len(engine.idle) >= self._settings.max_idle_connections
        ):
            connection.close()
            return
        connection.idle_since = self._loop.time()
        engine.idle.append(connection)

    def took(self, engine: Engine, seconds: float) -> None:
        """An answer was complete after ``seconds``."""
        engine.average += (seconds - engine.average) * _AVERAGE_SHARE

    def failed(self, engine: Engine, problem: str) -> None:
        """Send nobody there for a while; longer with every failure in a row."""
        engine.failures += 1
        pause = min(
            self._settings.cooldown_seconds * 2 ** min(engine.failures - 1, 16),
            self._settings.cooldown_max_seconds,
        )
        engine.down_until = self._loop.time() + pause
        log.warning("engine %s: %s; next try in %.1f s", engine.address, problem, pause)
        while engine.idle:
            engine.idle.pop().close()

    def hangs(self, engine: Engine, problem: str) -> None:
        """Nothing comes from there any more: nobody waits for it any longer."""
        self.failed(engine, problem)
        if engine.requests:
            log.warning("engine %s: %d requests leave it", engine.address, len(engine.requests))
        for request in list(engine.requests):
            request.abandon(problem)

    def succeeded(self, engine: Engine) -> None:
        """The engine has answered."""
        engine.last_success = self._loop.time()
        if engine.failures:
            log.info("engine %s: answers again", engine.address)
            engine.failures = 0
            engine.down_until = 0.0

    def close(self) -> None:
        """Close the idle connections and keep no more."""
        self._closed = True
        self.deadlines.close()
        for engine in self._engines.values():
            while engine.idle:
                engine.idle.pop().close()

    def _forget(self, engine: Engine, connection: EngineConnection) -> None:
        if connection in engine.idle:
            engine.idle.remove(connection)
