"""Starts the workers, keeps them running, collects their metrics, stops them with care."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any, Final

from tresor_gateway import config as configuration
from tresor_gateway import config_schema as schema
from tresor_gateway.errors import ConfigError
from tresor_gateway.metrics.registry import render
from tresor_gateway.process import handover
from tresor_gateway.process.admin import AdminServer
from tresor_gateway.process.channel import Channel
from tresor_gateway.process.notify import notify

log = logging.getLogger(__name__)
_PAUSE_FIRST: Final = 0.1
_PAUSE_MAX: Final = 5.0
_STABLE_SECONDS: Final = 30.0
_METRICS_SECONDS: Final = 5.0
_KILL_SECONDS: Final = 10.0
_ACCEPT_SECONDS: Final = 0.2


class Child:
    """One process of ours, a worker or the portal, and what we know about it."""

    def __init__(
        self, name: str, arguments: tuple[str, ...], *, serves: bool, path: Path | None
    ) -> None:
        self.name = name
        self.arguments = arguments
        # Whether its pid is a worker's.
        self.serves = serves
        # Its Unix socket, if it has one.
        self.path = path
        # A socket on which clients wait; its first process takes it.
        self.listener: int | None = None
        self.process: asyncio.subprocess.Process | None = None
        self.channel: Channel | None = None
        self.ready = False
        self.answers: asyncio.Queue[dict[str, Any]] = asyncio.Queue()


class Supervisor:
    """The service's main process; it never touches a request."""

    def __init__(self, config: schema.Config, path: Path) -> None:
        self._config = config
        self._path = path
        folder = None if config.listen.sockets is None else Path(config.listen.sockets)
        self._children = [
            Child(
                str(number),
                ("--worker", str(number)),
                serves=True,
                path=None if folder is None else folder / f"worker-{number}.sock",
            )
            for number in range(config.workers)
        ]
        if (page := config.portal) is not None:
            own = None if page.socket is None else Path(page.socket)
            self._children.append(Child("portal", ("--portal",), serves=False, path=own))
        self._sockets = {
            f"worker-{child.name}" if child.serves else child.name: child
            for child in self._children
            if child.path is not None
        }
        self._stop = asyncio.Event()
        self._announced = False
        self._failed_start: int | None = None
        self._asking = asyncio.Lock()

    async def run(self) -> int:
        """Serve until SIGTERM or SIGINT; returns the exit status.

        Raises:
            ConfigError: the admin address cannot be used.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        admin = AdminServer(self._metrics, self._healthy)
        await admin.start(self._config.admin)
        self._inherit()
        keepers = [loop.create_task(self._keep(child)) for child in self._children]
        await self._stop.wait()
        notify("STOPPING=1")
        await self._keep_sockets()
        for child in self._children:
            if child.process is not None and child.process.returncode is None:
                child.process.terminate()
        _, late = await asyncio.wait(
            keepers, timeout=self._config.limits.drain_seconds + _KILL_SECONDS
        )
        for child in self._children:
            if late and child.process is not None and child.process.returncode is None:
                log.error("worker %s does not stop; killed", child.name)
                child.process.kill()
        await asyncio.gather(*keepers)
        admin.close()
        if self._config.pid_file is not None:
            Path(self._config.pid_file).unlink(missing_ok=True)
        return self._failed_start or 0

    def _inherit(self) -> None:
        """Hand on the sockets that were kept while the service restarted."""
        for name, descriptor in handover.inherited(os.environ, self._sockets).items():
            child = self._sockets[name]
            if child.path is not None and handover.usable(descriptor, child.path):
                child.listener = descriptor
                log.info("%s goes on with the socket that was kept", name)
            else:
                os.close(descriptor)

    async def _keep_sockets(self) -> None:
        """Have those who come while we restart wait, instead of being refused."""
        if not self._sockets or not self._announced or self._failed_start is not None:
            return
        try:
            handover.keep({name: child.path for name, child in self._sockets.items() if child.path})
        except ConfigError as error:
            log.warning("sockets cannot be kept: %s", error)
            return
        # Who came to the old sockets before is accepted by the old workers.
        await asyncio.sleep(_ACCEPT_SECONDS)

    def _reload(self) -> None:
        """Have the workers read the configuration again, if it is one."""
        try:
            configuration.load(self._path)
        except ConfigError as error:
            log.error("configuration not taken over: %s", error)
            return
        for child in self._children:
            if child.channel is not None:
                child.channel.send({"ask": "reload"})

    async def _keep(self, child: Child) -> None:
        """Start a worker again and again, with growing pauses while it fails."""
        loop = asyncio.get_running_loop()
        pause = _PAUSE_FIRST
        while not self._stop.is_set():
            began = loop.time()
            status = await self._life(child)
            if self._stop.is_set():
                return
            if not self._announced:
                # The first start failed: that is the configuration's fault, not an accident.
                log.error("worker %s could not start (status %d)", child.name, status)
                self._failed_start = status if status > 0 else 1
                self._stop.set()
                return
            if loop.time() - began > _STABLE_SECONDS:
                pause = _PAUSE_FIRST
            log.error(
                "worker %s ended with status %d; starts again in %.1f s",
                child.name,
                status,
                pause,
            )
            try:
                async with asyncio.timeout(pause):
                    await self._stop.wait()
            except TimeoutError:
                pause = min(pause * 2, _PAUSE_MAX)

    async def _life(self, child: Child) -> int:
        ours, theirs = socket.socketpair()
        passed = [theirs.fileno()]
        listener, child.listener = child.listener, None
        more: list[str] = []
        if listener is not None:
            passed.append(listener)
            more = ["--listener", str(listener)]
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            # Never import from the working directory; as isolated as we are ourselves.
            "-I" if sys.flags.isolated else "-P",
            "-m",
            "tresor_gateway",
            "--config",
            str(self._path),
            *child.arguments,
            "--channel",
            str(theirs.fileno()),
            *more,
            pass_fds=passed,
        )
        theirs.close()
        if listener is not None:
            os.close(listener)
        child.process = process
        child.channel = await Channel.open(ours)
        if self._stop.is_set():
            process.terminate()
        reader = asyncio.get_running_loop().create_task(self._listen(child, child.channel))
        status = await process.wait()
        child.ready = False
        reader.cancel()
        await child.channel.close()
        return status

    async def _listen(self, child: Child, channel: Channel) -> None:
        while (message := await channel.receive()) is not None:
            if message.get("event") == "ready":
                child.ready = True
                self._changed()
            else:
                child.answers.put_nowait(message)

    def _changed(self) -> None:
        """A worker is ready: write the pid file, and announce the service when all are."""
        if self._config.pid_file is not None:
            pids = [
                child.process.pid
                for child in self._children
                if child.serves and child.process is not None
            ]
            path = Path(self._config.pid_file)
            scratch = path.with_name(f".{path.name}.{os.getpid()}")
            scratch.write_text("".join(f"{pid}\n" for pid in pids), encoding="ascii")
            scratch.replace(path)
        if not self._announced and self._healthy():
            self._announced = True
            notify("READY=1")
            handover.release(self._sockets)
            log.info("%d workers are ready", self._config.workers)

    def _healthy(self) -> bool:
        return all(child.ready for child in self._children) and not self._stop.is_set()

    async def _metrics(self) -> str:
        """Ask every worker; one that does not answer in time is left out (and counted as down)."""
        async with self._asking:
            collected = await asyncio.gather(*(self._ask(child) for child in self._children))
        up = [
            f'tresor_gateway_worker_up{{worker="{child.name}"}} {int(families is not None)}'
            for child, families in zip(self._children, collected, strict=True)
        ]
        header = [
            "# HELP tresor_gateway_worker_up Whether the worker answers.",
            "# TYPE tresor_gateway_worker_up gauge",
        ]
        return render([[(header, up)], *(item for item in collected if item is not None)])

    async def _ask(self, child: Child) -> list[tuple[list[str], list[str]]] | None:
        if not child.ready or child.channel is None:
            return None
        while not child.answers.empty():
            child.answers.get_nowait()
        child.channel.send({"ask": "metrics"})
        try:
            async with asyncio.timeout(_METRICS_SECONDS):
                message = await child.answers.get()
        except TimeoutError:
            return None
        return [(header, samples) for header, samples in message["families"]]
