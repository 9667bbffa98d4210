"""Tell systemd how the service is (sd_notify), with a plain datagram."""

from __future__ import annotations

import os
import socket


def notify(state: str, *descriptors: int) -> None:
    """Send ``state`` (for example ``READY=1``) when systemd asked for it, with descriptors."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    # A leading @ means an abstract socket.
    target = "\0" + address[1:] if address.startswith("@") else address
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        try:
            sender.connect(target)
            socket.send_fds(sender, [state.encode()], list(descriptors))
        except OSError:
            # systemd notices by itself when READY does not arrive.
            return
