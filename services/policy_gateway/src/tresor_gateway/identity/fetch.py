"""Ask one server of the company over https; blocking, so it runs in a thread.

No redirects, no proxy, no system trust store. With a list of revoked certificates the server's own
must not be on it; a list that is missing, damaged, expired or another authority's is a failure.
"""

from __future__ import annotations

import http.client
import ssl
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

_CHUNK: Final = 16 << 10


class FetchError(Exception):
    """No usable answer; the text names the address and the cause."""


@dataclass(frozen=True)
class Reply:
    """What the server said."""

    status: int
    body: bytes


class Server:
    """One address of a server. Plain http is for loopback only, which the configuration checks."""

    def __init__(
        self,
        url: str,
        *,
        ca_file: Path | None,
        crl_file: Path | None,
        timeout: float,
        max_bytes: int,
    ) -> None:
        parts = urlsplit(url)
        self.url = url
        self._tls = parts.scheme == "https"
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if self._tls else 80)
        self._target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._ca_file = ca_file
        self._crl_file = crl_file
        self._timeout = timeout
        self._max_bytes = max_bytes

    def ask(self, method: str, headers: dict[str, str], body: bytes | None = None) -> Reply:
        """Send a request; the timeout (seconds) is over everything.

        Raises:
            FetchError: no connection, no trust, too late or too large.
        """
        end = time.monotonic() + self._timeout
        try:
            connection = self._connection()
            try:
                connection.request(method, self._target, body, headers)
                response = connection.getresponse()
                return Reply(response.status, self._read(response, end))
            finally:
                connection.close()
        except (OSError, http.client.HTTPException) as error:
            raise FetchError(f"{self.url}: {type(error).__name__}: {error}") from error

    def _connection(self) -> http.client.HTTPConnection:
        if not self._tls:
            return http.client.HTTPConnection(self._host, self._port, timeout=self._timeout)
        # The trust files are read each time: they may be renewed while the service runs.
        context = ssl.create_default_context(cafile=str(self._ca_file))
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self._crl_file is not None:
            context.load_verify_locations(cafile=str(self._crl_file))
            context.verify_flags |= ssl.VerifyFlags.VERIFY_CRL_CHECK_LEAF
        return http.client.HTTPSConnection(
            self._host, self._port, timeout=self._timeout, context=context
        )

    def _read(self, response: http.client.HTTPResponse, end: float) -> bytes:
        data = bytearray()
        while chunk := response.read1(_CHUNK):
            data += chunk
            if len(data) > self._max_bytes:
                raise FetchError(f"{self.url}: larger than {self._max_bytes} bytes")
            if time.monotonic() > end:
                raise FetchError(f"{self.url}: took longer than {self._timeout} seconds")
        return bytes(data)
