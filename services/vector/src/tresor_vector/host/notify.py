"""Tell the service manager that the service is ready (sd_notify, without a library)."""

from __future__ import annotations

import os
import socket


def ready(status: str) -> None:
    """Send READY=1; without a service manager this does nothing."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        sender.sendto(f"READY=1\nSTATUS={status}".encode(), address)
