"""Metrics and health on an address of their own: two fixed answers, nothing else."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from tresor_gateway import config_schema as schema
from tresor_gateway.process.sockets import tcp_listener, unix_listener

log = logging.getLogger(__name__)
_HEAD_BYTES: Final = 8192
_SECONDS: Final = 10.0
_STATUS: Final = {200: "200 OK", 404: "404 Not Found", 503: "503 Service Unavailable"}
_METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


class AdminServer:
    """``GET /metrics`` and ``GET /healthz``."""

    def __init__(self, metrics: Callable[[], Awaitable[str]], healthy: Callable[[], bool]) -> None:
        self._metrics = metrics
        self._healthy = healthy
        self._server: asyncio.Server | None = None

    async def start(self, config: schema.Admin) -> str:
        """Listen; returns the address.

        Raises:
            ConfigError: the address cannot be used.
        """
        if config.socket is not None:
            listener = unix_listener(Path(config.socket))
        else:
            listener = tcp_listener(config.tcp or "", shared=False)
        self._server = await asyncio.start_server(self._serve, sock=listener, limit=_HEAD_BYTES)
        if config.socket is not None:
            return config.socket
        host, port = listener.getsockname()[:2]
        return f"{host}:{port}"

    def close(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
                status, kind, body = await self._answer(head.split(b"\r\n", 1)[0])
                data = body.encode()
                writer.write(
                    f"HTTP/1.1 {_STATUS[status]}\r\nContent-Type: {kind}\r\n"
                    f"Content-Length: {len(data)}\r\nConnection: close\r\n\r\n".encode()
                    + data
                )
                await writer.drain()
        except (TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError):
            pass
        except Exception:
            log.exception("admin request")
        finally:
            writer.close()

    async def _answer(self, line: bytes) -> tuple[int, str, str]:
        target = line.split(b" ")[1] if line.startswith(b"GET ") and line.count(b" ") == 2 else b""
        if target == b"/metrics":
            return 200, _METRICS_TYPE, await self._metrics()
        if target == b"/healthz":
            healthy = self._healthy()
            return (200 if healthy else 503), "text/plain", "ok\n" if healthy else "not ready\n"
        return 404, "text/plain", "not found\n"
