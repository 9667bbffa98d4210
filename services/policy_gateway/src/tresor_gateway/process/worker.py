"""A worker: builds the gateway from the configuration and serves until it is told to stop."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from pathlib import Path
from typing import Final

import msgspec

from tresor_gateway import config_schema as schema
from tresor_gateway import gateway as gateway_module
from tresor_gateway import keys as site_keys
from tresor_gateway.access import AccessTable
from tresor_gateway.audit.chain import Chain
from tresor_gateway.audit.writer import AuditWriter
from tresor_gateway.catalogue import Catalogue
from tresor_gateway.classifier.stage import ClassifierStage
from tresor_gateway.content.keeping import Keeping, content_writer
from tresor_gateway.errors import ConfigError
from tresor_gateway.gateway import Gateway, Parts
from tresor_gateway.guardrails.setup import pipeline
from tresor_gateway.http.server import HttpServer, ServerLimits
from tresor_gateway.identity.setup import authenticator, key_store, open_revocations
from tresor_gateway.metrics.gateway import GatewayMetrics
from tresor_gateway.outbox import Outbox
from tresor_gateway.process.sockets import tcp_listener, unix_listener
from tresor_gateway.routing.probe import Prober
from tresor_gateway.tracing.tracer import tracer
from tresor_gateway.upstream.pool import EnginePool
from tresor_gateway.upstream.tls import client_context
from tresor_gateway.usage.table import UsageTable

log = logging.getLogger(__name__)
_ABORT_SECONDS: Final = 2.0


class Worker:
    """One process's worth of gateway. Create it inside a running event loop."""

    def __init__(self, config: schema.Config, number: int, listener: int | None = None) -> None:
        """Read secrets and certificates and put the parts together.

        ``listener`` is a socket on which clients wait already.

        Raises:
            ConfigError: a file that the configuration names cannot be used.
        """
        loop = asyncio.get_running_loop()
        self._loop = loop
        self._config = config
        self.number = number
        outbox = Outbox(loop)
        self._pool = EnginePool(loop, config.upstream, client_context(config.upstream), outbox)
        catalogue = Catalogue(config.models, self._pool)
        self._store = key_store(config.identity.jwks)
        self._audit = audit_writer(loop, config.audit, f"gateway{number}")
        self._content = content_writer(loop, config, number)
        self._tracer = tracer(config, number)
        self.metrics = GatewayMetrics()
        usage_file = Path(config.usage.file) if config.usage.file else None
        self.revocations = open_revocations(config)
        self.site_keys = site_keys.load(config)
        self.usage = UsageTable(usage_file, config.workers, number)
        self._authenticator = authenticator(
            config.identity,
            self._store,
            AccessTable(config.access, catalogue.tasks),
            self.site_keys,
            self.revocations,
            strict_tenants=frozenset(config.audit.strict_tenants),
        )
        self._gateway = Gateway(
            loop,
            self._parts(config, catalogue),
            behind_proxy=config.listen.sockets is not None,
        )
        limits = config.limits
        self._server = HttpServer(
            loop,
            self._gateway,
            ServerLimits(
                header_bytes=limits.max_header_bytes,
                body_bytes=limits.max_body_bytes,
                connections=limits.max_connections,
                buffered_bytes=limits.max_buffered_bytes,
                receive_seconds=limits.receive_seconds,
                keepalive_seconds=limits.keepalive_seconds,
            ),
            outbox,
        )
        settings = config.upstream
        self._prober = Prober(
            catalogue,
            self._pool,
            interval=settings.probe_seconds,
            timeout=settings.probe_timeout_seconds,
        )
        self._listener: asyncio.Server | None = None
        self._path: Path | None = None
        self._given = listener
        self._background: list[asyncio.Task[None]] = []
        self.metrics.watch_server(self._server)
        self.metrics.watch_keys(self._store)
        self.metrics.watch_audit(self._audit)
        if self._content is not None:
            self.metrics.watch_content(self._content)
        if self._tracer is not None:
            self.metrics.watch_traces(self._tracer.exporter)
        self.metrics.watch_engines(self._pool)
        self.metrics.watch_process(time.time())

    @property
    def address(self) -> str:
        """Where clients connect: a socket's path or ``host:port``."""
        if self._path is not None:
            return str(self._path)
        if self._listener is None:
            return ""
        host, port = self._listener.sockets[0].getsockname()[:2]
        return f"{host}:{port}"

    def reload(self, config: schema.Config) -> None:
        """Take over models, access, routes, guardrails and limits of requests; streams go on.

        Raises:
            ConfigError: something else has changed, which needs a restart.
        """
        fixed = [
            key
            for key in (
                "listen",
                "admin",
                "identity",
                "audit",
                "keys",
                "upstream",
                "workers",
                "traces",
            )
            if getattr(config, key) != getattr(self._config, key)
        ]
        if fixed:
            raise ConfigError(f"{', '.join(fixed)}: cannot change while running; restart instead")
        if _store(config) != _store(self._config):
            raise ConfigError("content: only its rules can change while running; restart instead")
        catalogue = Catalogue(config.models, self._pool)
        self._gateway.adopt(self._parts(config, catalogue))
        self._authenticator.adopt(AccessTable(config.access, catalogue.tasks))
        self._prober.catalogue = catalogue
        self._config = config
        log.info("worker %d decides by the configuration read again", self.number)

    def _parts(self, config: schema.Config, catalogue: Catalogue) -> Parts:
        return Parts(
            config,
            catalogue,
            self._pool,
            self._authenticator,
            self._audit,
            self.metrics,
            pipeline(config.guardrails),
            self.usage,
            self._keeping(config),
            self._stage(config, catalogue),
            self._tracer,
        )

    def _stage(self, config: schema.Config, catalogue: Catalogue) -> ClassifierStage | None:
        if not config.classifiers:
            return None
        return ClassifierStage(self._loop, self._pool, config, catalogue, self.metrics)

    def _keeping(self, config: schema.Config) -> Keeping | None:
        if self._content is None or config.content is None:
            return None
        return Keeping(self._content, config.content.rules)

    async def start(self) -> None:
        """Open the audit chain, get keys, listen.

        Raises:
            AuditError: the chain cannot be opened.
            ConfigError: the listening address cannot be used.
        """
        self._audit.start()
        try:
            if self._content is not None:
                self._content.start()
            await self._store.start()
            self._listener = await self._loop.create_server(
                self._server.protocol, sock=self._socket()
            )
        except BaseException:
            if self._content is not None:
                self._content.stop()
            self._audit.stop()
            raise
        self._background.append(self._loop.create_task(self._store.run()))
        if self._config.upstream.probe_seconds > 0:
            self._background.append(self._loop.create_task(self._prober.run()))
        if self._tracer is not None:
            self._tracer.exporter.start()
        log.info("worker %d listens at %s", self.number, self.address)
        if str(gateway_module.__file__).endswith(".py"):
            log.info("its modules are interpreted: none were compiled for this Python")

    async def stop(self) -> None:
        """Accept nothing new, finish what has begun within the drain time, flush the records."""
        if self._listener is not None:
            self._listener.close()
        self._server.drain()
        try:
            async with asyncio.timeout(self._config.limits.drain_seconds):
                await self._server.drained()
        except TimeoutError:
            log.warning("worker %d: drain time is over, connections are cut", self.number)
            self._server.abort()
            try:
                async with asyncio.timeout(_ABORT_SECONDS):
                    await self._server.drained()
            except TimeoutError:
                log.error("worker %d: connections did not end", self.number)
        for task in self._background:
            task.cancel()
        self._pool.close()
        if self._tracer is not None:
            await self._loop.run_in_executor(None, self._tracer.exporter.stop)
        if self._content is not None:
            await self._loop.run_in_executor(None, self._content.stop)
        await self._loop.run_in_executor(None, self._audit.stop)
        self.usage.close()
        if self.revocations is not None:
            self.revocations.close()

    def _socket(self) -> socket.socket:
        listen = self._config.listen
        if listen.sockets is not None:
            self._path = Path(listen.sockets) / f"worker-{self.number}.sock"
            if self._given is not None:
                return socket.socket(fileno=self._given)
            return unix_listener(self._path)
        return tcp_listener(listen.tcp or "", shared=self._config.workers > 1)


def _store(config: schema.Config) -> schema.Content | None:
    """What of the content's settings cannot change while running."""
    content = config.content
    return None if content is None else msgspec.structs.replace(content, rules=[])


def audit_writer(loop: asyncio.AbstractEventLoop, audit: schema.Audit, name: str) -> AuditWriter:
    """The writer of the chain that belongs to ``name``, one process of this host."""
    writer = f"{audit.host}-{name}"
    chain = Chain(Path(audit.directory) / writer, writer, max_file_bytes=audit.max_file_bytes)
    return AuditWriter(
        loop,
        chain,
        commit_seconds=audit.commit_milliseconds / 1000,
        max_pending=audit.max_pending_records,
        strict=audit.strict,
        deadline_seconds=audit.deadline_seconds,
    )
