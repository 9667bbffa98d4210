"""Where the provider's keys come from: a file or an https URL. Blocking; runs in a thread."""

from __future__ import annotations

from http import HTTPStatus
from pathlib import Path
from typing import Protocol

from tresor_gateway.errors import KeysError
from tresor_gateway.identity.fetch import FetchError, Server
from tresor_gateway.identity.jwks import MAX_JWKS_BYTES


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
        self._server = Server(
            url, ca_file=ca_file, crl_file=crl_file, timeout=timeout, max_bytes=MAX_JWKS_BYTES
        )

    def fetch(self) -> bytes:
        """GET the document within the timeout (seconds, over everything)."""
        try:
            reply = self._server.ask("GET", {"Accept": "application/json"})
        except FetchError as error:
            raise KeysError(str(error)) from error
        if reply.status != HTTPStatus.OK:
            raise KeysError(f"{self._server.url}: answered with status {reply.status}")
        return reply.body
