"""Listening sockets: Unix sockets that replace an old one without a gap, and loopback TCP."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Final

from tresor_gateway.addresses import split_address
from tresor_gateway.errors import ConfigError

_BACKLOG: Final = 4096
_SOCKET_MODE: Final = 0o660


def unix_listener(path: Path) -> socket.socket:
    """Listen at ``path`` for the own group; who connects meanwhile meets the old or the new one.

    Raises:
        ConfigError: the folder is missing or not writable.
    """
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        scratch.unlink(missing_ok=True)
        listener.bind(str(scratch))
        scratch.chmod(_SOCKET_MODE)
        listener.listen(_BACKLOG)
        scratch.rename(path)
    except OSError as error:
        listener.close()
        raise ConfigError(f"{path}: cannot listen: {error.strerror}; check its folder") from error
    return listener


def tcp_listener(address: str, *, shared: bool) -> socket.socket:
    """Listen on loopback; ``shared`` lets several workers share the port.

    Raises:
        ConfigError: the port is in use.
    """
    host, port = split_address(address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise ConfigError(f"{address}: cannot listen: {error.strerror}") from error
    return listener
