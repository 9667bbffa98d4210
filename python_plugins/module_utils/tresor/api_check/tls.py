"""Which TLS versions a server speaks."""

from __future__ import annotations

import socket
import ssl
import time
import warnings
from dataclasses import dataclass

from .client import Endpoint

_ALERT = "ALERT"
"""In the reason of every error that the other side reported; our own errors lack the word."""


@dataclass(frozen=True)
class Handshake:
    """How a handshake ended: ``agreed`` a version, or ``refused`` by the server; or neither."""

    agreed: str | None
    refused: bool
    detail: str
    seconds: float


def handshake(
    endpoint: Endpoint, version: ssl.TLSVersion, ca_file: str, timeout: float
) -> Handshake:
    """Try one TLS version and no other.

    Neither agreed nor refused means that nothing was learnt: no connection, or a TLS library
    that does not send that version itself.
    """
    started = time.monotonic()
    try:
        context = _context(version, ca_file)
        with (
            socket.create_connection((endpoint.address, endpoint.port), timeout) as plain,
            context.wrap_socket(plain, server_hostname=endpoint.name) as session,
        ):
            agreed = session.version()
            return Handshake(agreed, False, f"agreed on {agreed}", time.monotonic() - started)
    except ssl.SSLError as error:
        reason = error.reason or str(error)
        return Handshake(None, _ALERT in reason.upper(), reason, time.monotonic() - started)
    except ConnectionResetError:
        return Handshake(None, True, "connection reset", time.monotonic() - started)
    except (OSError, ValueError) as error:
        detail = f"{type(error).__name__}: {error}"
        return Handshake(None, False, detail, time.monotonic() - started)


def _context(version: ssl.TLSVersion, ca_file: str) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=ca_file)
    with warnings.catch_warnings():  # old versions are deprecated; offering one is the point
        warnings.simplefilter("ignore", DeprecationWarning)
        if version < ssl.TLSVersion.TLSv1_2:
            # Libraries do not offer TLS 1.1 above security level 0; without this the refusal
            # would be our own and not the server's.
            context.set_ciphers("ALL:@SECLEVEL=0")
        context.minimum_version = version
        context.maximum_version = version
    return context
