"""How to reach the server: mutual TLS, and on the real server a user."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Access:
    """Where the server is and who we are; paths of PEM files, ``timeout`` in seconds."""

    uri: str
    server_name: str
    ca: Path
    certificate: Path | None
    key: Path | None
    timeout: float = 30.0


def quiet() -> None:
    """Keep the library from printing the traceback of every refused call.

    It sets its loggers' levels when it is loaded, so only the switch for all of them holds.
    """
    logging.disable(logging.CRITICAL)


def connect(access: Access, user: str | None = None, password: str | None = None) -> Any:  # noqa: ANN401
    """Return a connected client; raises what the library raises."""
    from pymilvus import MilvusClient  # noqa: PLC0415 # half a second, and only here

    own = {}
    if access.certificate and access.key:
        own = {"client_pem_path": str(access.certificate), "client_key_path": str(access.key)}
    return MilvusClient(
        uri=access.uri,
        user=user or "",
        password=password or "",
        server_name=access.server_name,
        ca_pem_path=str(access.ca),
        timeout=access.timeout,
        **own,
    )
