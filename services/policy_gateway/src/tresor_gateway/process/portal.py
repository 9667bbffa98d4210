"""The portal's process (or part of a stand-alone one): listens, serves, stops when told."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tresor_gateway import config as configuration
from tresor_gateway import config_schema as schema
from tresor_gateway import keys as site_keys
from tresor_gateway.access import AccessTable
from tresor_gateway.errors import ConfigError, GatewayError
from tresor_gateway.http.server import HttpServer, ServerLimits
from tresor_gateway.identity.revocations import Revocations
from tresor_gateway.identity.setup import authenticator, key_store, open_revocations
from tresor_gateway.keys import SiteKeys
from tresor_gateway.metrics.gateway import GatewayMetrics
from tresor_gateway.metrics.registry import Gauge
from tresor_gateway.portal.application import PortalApplication, Surroundings
from tresor_gateway.portal.chat import Workers
from tresor_gateway.portal.provider import Provider
from tresor_gateway.portal.sessions import Sessions
from tresor_gateway.portal.signed import ClientPolicy
from tresor_gateway.portal.signin import SignIn, Trust
from tresor_gateway.process.channel import Channel
from tresor_gateway.process.sockets import tcp_listener, unix_listener
from tresor_gateway.process.worker import Worker, audit_writer
from tresor_gateway.usage.table import UsageTable

log = logging.getLogger(__name__)
NAME: Final = "portal"
_HEADER_BYTES: Final = 32 << 10
_BODY_BYTES: Final = 128 << 10
_CONNECTIONS: Final = 1024
_DRAIN_SECONDS: Final = 5.0
_TOTAL_SLACK: Final = 5.0


@dataclass(frozen=True)
class Shared:
    """What workers and portal of a host have in common."""

    usage: UsageTable
    revocations: Revocations
    site_keys: SiteKeys
    workers: tuple[str, ...]


def shared(config: schema.Config) -> Shared:
    """Open what the workers of this host share with the portal, as a process of its own.

    Raises:
        ConfigError: a file cannot be used, or nothing would be shared.
    """
    revocations = open_revocations(config)
    if config.portal is None or revocations is None or config.identity.revocations is None:
        raise ConfigError("portal, identity.revocations: are required for a portal process")
    listen = config.listen
    addresses: tuple[str, ...] = (listen.tcp or "",)
    if listen.sockets is not None:
        sockets = Path(listen.sockets)
        addresses = tuple(str(sockets / f"worker-{n}.sock") for n in range(config.workers))
    file = config.usage.file
    usage = UsageTable(Path(file) if file else None, config.workers, None)
    return Shared(usage, revocations, site_keys.load(config), addresses)


class Portal:
    """The page's server. Create it inside a running event loop."""

    def __init__(self, config: schema.Config, portal: schema.Portal, parts: Shared) -> None:
        """Read the client's secret and put the parts together.

        Raises:
            ConfigError: a file that the configuration names cannot be used.
        """
        loop = asyncio.get_running_loop()
        self._loop = loop
        self._config = config
        self._portal = portal
        self._audit = audit_writer(loop, config.audit, NAME)
        self.metrics = GatewayMetrics()
        identity = config.identity
        self._store = key_store(identity.jwks)
        self._authenticator = authenticator(
            identity,
            self._store,
            _access(config),
            parts.site_keys,
            parts.revocations,
        )
        sessions = Sessions(
            session_seconds=portal.session_seconds,
            idle_seconds=portal.idle_seconds,
            max_sessions=portal.max_sessions,
        )
        provider = Provider(portal, identity.jwks)
        policy = ClientPolicy(
            identity.issuer,
            portal.client_id,
            frozenset(identity.algorithms),
            identity.clock_skew_seconds,
        )
        trust = Trust(
            policy,
            self._store,
            self._authenticator,
            parts.revocations,
            parts.site_keys,
            portal.name_claim,
        )
        self.application = PortalApplication(
            loop,
            Surroundings(
                config,
                portal,
                SignIn(trust, provider, sessions),
                sessions,
                parts.usage,
                Workers(parts.workers, config.upstream.total_seconds + _TOTAL_SLACK),
                self._audit,
                self.metrics,
                provider.origins,
                portal.socket is not None,
            ),
        )
        limits = config.limits
        self._server = HttpServer(
            loop,
            self.application,
            ServerLimits(
                header_bytes=_HEADER_BYTES,
                body_bytes=_BODY_BYTES,
                connections=_CONNECTIONS,
                buffered_bytes=_CONNECTIONS * _BODY_BYTES,
                receive_seconds=limits.receive_seconds,
                keepalive_seconds=limits.keepalive_seconds,
            ),
        )
        self._listener: asyncio.Server | None = None
        self._background: asyncio.Task[None] | None = None
        self.metrics.watch_keys(self._store)
        self.metrics.watch_audit(self._audit)
        self.metrics.registry.add(
            Gauge(
                "tresor_gateway_portal_sessions",
                "People's sessions in a browser, among them some that have just ended.",
                lambda: [((), float(len(sessions)))],
            )
        )

    @property
    def address(self) -> str:
        """Where browsers (NGINX) connect."""
        if self._portal.socket is not None or self._listener is None:
            return self._portal.socket or ""
        host, port = self._listener.sockets[0].getsockname()[:2]
        return f"{host}:{port}"

    def reload(self, config: schema.Config) -> None:
        """Show the models and rights of another configuration; sessions stay.

        Raises:
            ConfigError: something else has changed, which needs a restart.
        """
        if config.portal != self._config.portal:
            raise ConfigError("portal: cannot change while running; restart instead")
        self._authenticator.adopt(_access(config))
        self.application.adopt(config)
        self._config = config

    async def start(self, given: int | None = None) -> None:
        """Open the audit chain, get keys, listen; ``given`` is a socket on which clients wait.

        Raises:
            AuditError: the chain cannot be opened.
            ConfigError: the listening address cannot be used.
        """
        self._audit.start()
        try:
            await self._store.start()
            if given is not None:
                listener = socket.socket(fileno=given)
            elif self._portal.socket is not None:
                listener = unix_listener(Path(self._portal.socket))
            else:
                listener = tcp_listener(self._portal.tcp or "", shared=False)
            self._listener = await self._loop.create_server(self._server.protocol, sock=listener)
        except BaseException:
            self._audit.stop()
            raise
        self._background = self._loop.create_task(self._store.run())
        log.info("portal listens at %s", self.address)

    async def stop(self) -> None:
        """Accept nothing new, finish what has begun, flush the records."""
        if self._listener is not None:
            self._listener.close()
        self._server.drain()
        try:
            async with asyncio.timeout(_DRAIN_SECONDS):
                await self._server.drained()
        except TimeoutError:
            self._server.abort()
        if self._background is not None:
            self._background.cancel()
        await self._loop.run_in_executor(None, self._audit.stop)


async def run(config: schema.Config, path: Path, descriptor: int, given: int | None = None) -> None:
    """Serve as the supervisor's portal; ``descriptor`` is our end of its channel.

    ``given`` is a socket on which clients wait already.

    Raises:
        GatewayError: it cannot start.
    """
    if config.portal is None:
        raise ConfigError("portal: is missing")
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    channel = await Channel.open(socket.socket(fileno=descriptor))
    parts = shared(config)
    portal = Portal(config, config.portal, parts)
    await portal.start(given)
    channel.send({"event": "ready", "address": portal.address})

    async def listen() -> None:
        while (message := await channel.receive()) is not None:
            if message.get("ask") == "metrics":
                families = portal.metrics.registry.collect(NAME)
                channel.send({"event": "metrics", "families": families})
            elif message.get("ask") == "reload":
                reload(portal, path)
        stop.set()

    listener = loop.create_task(listen())
    await stop.wait()
    await portal.stop()
    listener.cancel()
    parts.usage.close()
    parts.revocations.close()
    await channel.close()


async def beside(config: schema.Config, worker: Worker) -> Portal | None:
    """Start the portal in the process of the only worker; none where the site has none.

    Raises:
        GatewayError: it cannot start.
    """
    if config.portal is None or worker.revocations is None:
        return None
    parts = Shared(worker.usage, worker.revocations, worker.site_keys, (worker.address,))
    portal = Portal(config, config.portal, parts)
    await portal.start()
    return portal


def reload(portal: Portal, path: Path) -> None:
    """Read the configuration again; a mistake in it leaves everything as it is."""
    try:
        portal.reload(configuration.load(path))
    except GatewayError as error:
        log.error("configuration not taken over: %s", error)


def _access(config: schema.Config) -> AccessTable:
    return AccessTable(config.access, {model.name: model.task for model in config.models})
