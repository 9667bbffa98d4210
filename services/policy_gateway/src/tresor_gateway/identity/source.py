"""Where the provider's keys come from: a file or an https URL. Blocking; runs in a thread."""

from __future__ import annotations

import http.client
import ssl
import time
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import urlsplit

from tresor_gateway.errors import KeysError
from tresor_gateway.identity.jwks import MAX_JWKS_BYTES

_CHUNK: Final = 16 << 10


class KeySource(Protocol):
    """Something that yields a JWKS document."""

    def fetch(self) -> bytes:
        """The document's bytes.

        Raises:
            KeysError: it cannot be had now.
        """


class FileSource:
    """A JWKS that somebody puts on the host."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def fetch(self) -> bytes:
        """Read the file."""
        try:
            with self._path.open("rb") as stream:
                return stream.read(MAX_JWKS_BYTES + 1)
        except OSError as error:
            raise KeysError(f"{self._path}: cannot be read: {error.strerror}") from error


class UrlSource:
    """The provider's JWKS endpoint; no redirects, no proxy, no system trust store.

    With ``crl_file`` the provider's own certificate must not be on that list of revoked
    certificates. A list that is missing, damaged, expired or another authority's is a failed
    fetch: the keys at hand serve until their maximum age, and then no token is accepted.
    """

    def __init__(
        self, url: str, ca_file: Path, timeout: float, *, crl_file: Path | None = None
    ) -> None:
        parts = urlsplit(url)
        self._url = url
        self._host = parts.hostname or ""
        self._port = parts.port or 443
        self._target = parts.path or "/"
        if parts.query:
            self._target += "?" + parts.query
        self._timeout = timeout
        self._ca_file = ca_file
        self._crl_file = crl_file

    def fetch(self) -> bytes:
        """GET the document within the timeout (seconds, over everything)."""
        end = time.monotonic() + self._timeout
        try:
            context = self._context()
            connection = http.client.HTTPSConnection(
                self._host, self._port, timeout=self._timeout, context=context
            )
            try:
                connection.request("GET", self._target, headers={"Accept": "application/json"})
                response = connection.getresponse()
                if response.status != http.client.OK:
                    raise KeysError(f"{self._url}: answered with status {response.status}")
                return self._read(response, end)
            finally:
                connection.close()
        except (OSError, http.client.HTTPException) as error:
            raise KeysError(f"{self._url}: {type(error).__name__}: {error}") from error

    def _context(self) -> ssl.SSLContext:
        # The trust files are read each time: they may be renewed while the service runs.
        context = ssl.create_default_context(cafile=str(self._ca_file))
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self._crl_file is not None:
            context.load_verify_locations(cafile=str(self._crl_file))
            context.verify_flags |= ssl.VerifyFlags.VERIFY_CRL_CHECK_LEAF
        return context

    def _read(self, response: http.client.HTTPResponse, end: float) -> bytes:
        data = bytearray()
        while chunk := response.read1(_CHUNK):
            data += chunk
            if len(data) > MAX_JWKS_BYTES:
                raise KeysError(f"{self._url}: larger than {MAX_JWKS_BYTES} bytes")
            if time.monotonic() > end:
                raise KeysError(f"{self._url}: took longer than {self._timeout} seconds")
        return bytes(data)
