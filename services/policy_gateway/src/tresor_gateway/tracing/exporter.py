"""Sends what is finished to the collector, from a thread of its own; what it cannot send is lost.

Traces are a convenience: a slow or absent collector costs spans, never a request.
"""

from __future__ import annotations

import http.client
import logging
import ssl
import threading
from collections import deque
from typing import Final
from urllib.parse import urlsplit

from tresor_gateway import __version__
from tresor_gateway import config_schema as schema
from tresor_gateway.config import secret_path
from tresor_gateway.errors import ConfigError
from tresor_gateway.tracing.spans import Finished, batch

log = logging.getLogger(__name__)
_PAUSE_SECONDS: Final = 1.0
_BATCH: Final = 512
_MAX_ANSWER: Final = 64 << 10
_OK: Final = range(200, 300)


class Exporter:
    """A bounded queue and the thread that empties it."""

    def __init__(self, settings: schema.Traces, host: str, instance: str) -> None:
        """Raises:
        ConfigError: the TLS files cannot be used.
        """
        self._settings = settings
        self._host = host
        self._instance = instance
        self._url = urlsplit(settings.endpoint)
        self._tls = _context(settings) if self._url.scheme == "https" else None
        self._queue: deque[Finished] = deque()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="traces", daemon=True)
        self._failing = False
        self.sent = 0
        self.dropped = 0

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def add(self, finished: Finished) -> None:
        """Queue a request; when there is no room it is dropped and counted."""
        if len(self._queue) >= self._settings.max_queued:
            self.dropped += 1
        else:
            self._queue.append(finished)

    def stop(self) -> None:
        """Try once to send what is left (blocking, a few seconds at most)."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(self._settings.timeout_seconds + 1)

    # --- thread -------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stop.wait(_PAUSE_SECONDS):
            self._send_all()
        self._send_all()

    def _send_all(self) -> None:
        while self._queue:
            some = [self._queue.popleft() for _ in range(min(_BATCH, len(self._queue)))]
            try:
                self._send(batch(some, self._host, self._instance))
            except (OSError, http.client.HTTPException, ValueError) as error:
                self.dropped += len(some)
                if not self._failing:
                    self._failing = True
                    log.warning("traces cannot be sent (%s): they are dropped", error)
                return
            self.sent += len(some)
            if self._failing:
                self._failing = False
                log.info("traces are sent again")

    def _send(self, body: bytes) -> None:
        url, seconds = self._url, self._settings.timeout_seconds
        host, port = url.hostname or "", url.port
        connection: http.client.HTTPConnection
        if self._tls is not None:
            connection = http.client.HTTPSConnection(host, port, timeout=seconds, context=self._tls)
        else:
            connection = http.client.HTTPConnection(host, port, timeout=seconds)
        try:
            headers = {
                "Content-Type": "application/json",
                "User-Agent": f"tresor-gateway/{__version__}",
            }
            connection.request("POST", url.path, body, headers)
            answer = connection.getresponse()
            answer.read(_MAX_ANSWER)
            if answer.status not in _OK:
                raise OSError(f"the collector answered with status {answer.status}")
        finally:
            connection.close()


def _context(settings: schema.Traces) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_verify_locations(cafile=settings.ca_file)
        if settings.cert_file and settings.key_file:
            context.load_cert_chain(settings.cert_file, str(secret_path(settings.key_file)))
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"traces: ca_file {settings.ca_file}, cert_file {settings.cert_file}, key_file "
            f"{settings.key_file}: {error}; check that they exist and belong together"
        ) from error
    return context
