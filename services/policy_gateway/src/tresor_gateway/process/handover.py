"""Listening sockets that outlive a restart: systemd keeps them while nobody serves.

When the service is told to stop, its sockets are replaced by new ones, and systemd's file
descriptor store holds these. Whoever connects while the old workers end and the new ones start
waits in them, and is served. If nothing starts again, systemd closes them.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Final

from tresor_gateway.process.notify import notify
from tresor_gateway.process.sockets import unix_listener

_FIRST: Final = 3


def inherited(environment: Mapping[str, str], wanted: Collection[str]) -> dict[str, int]:
    """Take over what systemd passes: ``wanted`` file descriptors by name; each is given once."""
    if environment.get("LISTEN_PID") != str(os.getpid()):
        return {}
    names = environment.get("LISTEN_FDNAMES", "").split(":")
    found = {}
    for offset, name in enumerate(names[: int(environment.get("LISTEN_FDS", "0"))]):
        descriptor = _FIRST + offset
        os.set_inheritable(descriptor, False)
        if name in wanted and name not in found:
            found[name] = descriptor
        else:
            os.close(descriptor)
    return found


def usable(descriptor: int, path: Path) -> bool:
    """Whether this is a listening socket and ``path`` leads to one.

    The runtime folder is kept during a restart only; without it nobody would find the socket.
    """
    try:
        with socket.socket(fileno=os.dup(descriptor)) as copy:
            listens = copy.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
            return bool(listens) and copy.family == socket.AF_UNIX and path.is_socket()
    except OSError:
        return False


def keep(sockets: Mapping[str, Path]) -> None:
    """Put new sockets in the place of those that serve and have systemd keep them, by name.

    Raises:
        ConfigError: their folder is gone.
    """
    if "NOTIFY_SOCKET" not in os.environ:
        return
    for name, path in sockets.items():
        with unix_listener(path) as listener:
            notify(f"FDSTORE=1\nFDNAME={name}", listener.fileno())


def release(names: Iterable[str]) -> None:
    """All serve again: a socket without its process must refuse, not wait."""
    for name in names:
        notify(f"FDSTOREREMOVE=1\nFDNAME={name}")
