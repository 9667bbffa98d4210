"""Listening sockets that outlive a restart: systemd keeps them while nobody serves.

When the service is told to stop, the workers' sockets are replaced by new ones, and systemd's file
descriptor store holds these. Whoever connects while the old workers end and the new ones start
waits in them, and is served. If nothing starts again, systemd closes them.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from tresor_gateway.process.notify import notify
from tresor_gateway.process.sockets import unix_listener

_FIRST: Final = 3
_PREFIX: Final = "worker-"


def inherited(environment: Mapping[str, str]) -> dict[str, int]:
    """Take over what systemd passes: file descriptors by name; each is given once."""
    if environment.get("LISTEN_PID") != str(os.getpid()):
        return {}
    names = environment.get("LISTEN_FDNAMES", "").split(":")
    found = {}
    for offset, name in enumerate(names[: int(environment.get("LISTEN_FDS", "0"))]):
        descriptor = _FIRST + offset
        os.set_inheritable(descriptor, False)
        if name.startswith(_PREFIX) and name not in found:
            found[name] = descriptor
        else:
            os.close(descriptor)
    return found


def name_of(number: int) -> str:
    """The name under which a worker's socket is kept."""
    return f"{_PREFIX}{number}"


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


def keep(folder: Path, numbers: Iterable[int]) -> None:
    """Put new sockets in the place of the workers' and have systemd keep them.

    Raises:
        ConfigError: the folder is gone.
    """
    if "NOTIFY_SOCKET" not in os.environ:
        return
    for number in numbers:
        with unix_listener(folder / f"worker-{number}.sock") as listener:
            notify(f"FDSTORE=1\nFDNAME={name_of(number)}", listener.fileno())


def release(numbers: Iterable[int]) -> None:
    """The workers serve again: a socket without its worker must refuse, not wait."""
    for number in numbers:
        notify(f"FDSTOREREMOVE=1\nFDNAME={name_of(number)}")
