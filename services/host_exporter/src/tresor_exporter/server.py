"""HTTP on loopback: ``GET /metrics`` and ``GET /healthz``, nothing else."""

from __future__ import annotations

import logging
import socket
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, CollectorRegistry, generate_latest

log = logging.getLogger(__name__)
_SECONDS: Final = 10.0


class MetricsServer(ThreadingHTTPServer):
    """Serves one registry.

    Raises:
        OSError: the address is taken.
    """

    daemon_threads = True
    request_queue_size = 16

    def __init__(self, host: str, port: int, registry: CollectorRegistry) -> None:
        self.registry = registry
        if ":" in host:
            self.address_family = socket.AF_INET6
        super().__init__((host, port), _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: MetricsServer
    timeout = _SECONDS
    server_version = "tresor-exporter"
    sys_version = ""

    def do_GET(self) -> None:
        if self.path == "/metrics":
            self._answer(200, CONTENT_TYPE_PLAIN_0_0_4, generate_latest(self.server.registry))
        elif self.path == "/healthz":
            self._answer(200, "text/plain", b"ok\n")
        else:
            self._answer(404, "text/plain", b"not found\n")

    def _answer(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it
        """Say nothing about single requests; there is one every few seconds."""
        log.debug(format, *args)
