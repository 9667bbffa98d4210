"""HTTP over mTLS to the bastion's store; every byte is checked before anyone uses it."""

from __future__ import annotations

import errno
import hashlib
import http.client
import json
import os
import ssl
import time
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from ..bundle.errors import EnvironmentNotReadyError, RejectedError

CHUNK_BYTES = 1024 * 1024
ATTEMPTS = 3
TIMEOUT_S = 60.0
MAX_TEXT_BYTES = 16 * 1024 * 1024

_T = TypeVar("_T")


@dataclass(frozen=True)
class Connection:
    """Where the store is and who we are; paths are PEM files."""

    url: str
    ca_cert: Path
    client_cert: Path
    client_key: Path

    def context(self) -> ssl.SSLContext:
        """Return the TLS settings: 1.2 or newer, the site's CA and no other, our certificate.

        Raises:
            EnvironmentNotReadyError: rule ``store.tls``.
        """
        for path in (self.ca_cert, self.client_cert, self.client_key):
            if not path.is_file():
                raise EnvironmentNotReadyError(
                    "store.tls",
                    "does not exist: the host needs its certificate before it can use the store",
                    str(path),
                )
        try:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            context.load_verify_locations(cafile=str(self.ca_cert))
            context.load_cert_chain(str(self.client_cert), str(self.client_key))
        except (ssl.SSLError, OSError) as error:
            raise EnvironmentNotReadyError(
                "store.tls", f"cannot use the certificates: {error}", str(self.client_cert)
            ) from error
        return context


@dataclass(frozen=True)
class Listed:
    """A file as the store lists it; ``size`` in bytes is a hint until the content is verified."""

    name: str
    size: int


class StoreClient:
    """Reads from the store over one kept-open connection; use as a context manager."""

    def __init__(self, connection: Connection) -> None:
        parts = urllib.parse.urlsplit(connection.url)
        if parts.scheme != "https" or not parts.hostname or parts.query or parts.fragment:
            raise EnvironmentNotReadyError(
                "store.url", f"{connection.url!r} is not of the form https://host:port"
            )
        self._host = parts.hostname
        self._port = parts.port or 443
        self._base = parts.path.rstrip("/")
        self._context = connection.context()
        self._http: http.client.HTTPSConnection | None = None

    def __enter__(self) -> StoreClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close()

    def read(self, path: str, limit: int = MAX_TEXT_BYTES) -> bytes:
        """Return a small file.

        Raises:
            EnvironmentNotReadyError: ``store.unreachable``, ``store.answer``.
            RejectedError: ``store.size``.
        """

        def take(response: http.client.HTTPResponse) -> bytes:
            raw = response.read(limit + 1)
            if len(raw) > limit:
                raise RejectedError("store.size", f"more than {limit} bytes", path)
            return raw

        return self._get(path, take)

    def listing(self, folder: str) -> list[Listed]:
        """Return the files of a folder, as the store's server lists them."""
        raw = self.read(folder.rstrip("/") + "/")
        try:
            return [
                Listed(str(item["name"]), int(item["size"]))
                for item in json.loads(raw)
                if item["type"] == "file"
            ]
        except (ValueError, KeyError, TypeError) as error:
            raise EnvironmentNotReadyError(
                "store.answer", f"is not a JSON listing: {error}", folder
            ) from error

    def download(self, path: str, target: Path, *, limit: int) -> str:
        """Write a file to a new ``target`` (0600) and return the SHA-256 of what was written.

        Args:
            limit: most bytes accepted.

        Raises:
            EnvironmentNotReadyError: ``store.unreachable``, ``store.answer``, ``space.full``.
            RejectedError: ``store.size``.
        """

        def take(response: http.client.HTTPResponse) -> str:
            digest = hashlib.sha256()
            size = 0
            buffer = memoryview(bytearray(CHUNK_BYTES))
            descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "wb", buffering=0) as stream:
                while count := response.readinto(buffer):
                    size += count
                    if size > limit:
                        raise RejectedError("store.size", f"more than {limit} bytes", path)
                    digest.update(buffer[:count])
                    stream.write(buffer[:count])
            if response.length:
                raise http.client.IncompleteRead(b"", response.length)
            return digest.hexdigest()

        return self._get(path, take)

    def _get(self, path: str, take: Callable[[http.client.HTTPResponse], _T]) -> _T:
        target = self._base + "/" + urllib.parse.quote(path, safe="/~")
        last: Exception | None = None
        for attempt in range(ATTEMPTS):
            if attempt:
                time.sleep(attempt)  # the server may be reloading
            try:
                response = self._open(target)
                if response.status != http.client.OK:
                    text = f"{response.status} {response.reason}"
                    self._close()
                    raise EnvironmentNotReadyError(
                        "store.answer", f"the store answered {text}", f"{self._host}{target}"
                    )
                return take(response)
            except ssl.SSLCertVerificationError as error:
                self._close()
                raise EnvironmentNotReadyError(
                    "store.tls",
                    f"the store's certificate is not accepted: {error.verify_message}",
                    f"{self._host}:{self._port}",
                ) from error
            except (
                http.client.HTTPException,
                ConnectionError,
                TimeoutError,
                ssl.SSLError,
            ) as error:
                self._close()
                last = error
            except OSError as error:
                self._close()
                if error.errno in (errno.ENOSPC, errno.EDQUOT):
                    raise EnvironmentNotReadyError(
                        "space.full", "the disk is full; free space and repeat", path
                    ) from error
                last = error
            except RejectedError:
                self._close()
                raise
        raise EnvironmentNotReadyError(
            "store.unreachable",
            f"no answer after {ATTEMPTS} attempts: {last}. Is the store running, and may this "
            "host reach it?",
            f"{self._host}:{self._port}",
        ) from last

    def _open(self, target: str) -> http.client.HTTPResponse:
        if self._http is None:
            self._http = http.client.HTTPSConnection(
                self._host, self._port, timeout=TIMEOUT_S, context=self._context
            )
        self._http.request("GET", target)
        return self._http.getresponse()

    def _close(self) -> None:
        if self._http is not None:
            self._http.close()
            self._http = None
