"""Send many probes at once and say what came back: one thread, non-blocking sockets."""

from __future__ import annotations

import contextlib
import errno
import os
import selectors
import socket
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from .targets import Probe

REACHED = "reached"
REFUSED = "refused"
SILENT = "silent"
BLOCKED = "blocked"
ERROR = "error"

FIRST_RETRANSMISSION = 1.0
"""Seconds after which Linux sends the SYN of an unanswered connect again (RFC 6298); a socket
closed before that has sent exactly one packet."""

LONGEST_FORBIDDEN = 0.8
"""The longest deadline of a forbidden probe, so that a busy host still closes it in time."""

AT_ONCE = 200
"""Open sockets at one time; the usual limit is 1024 files."""

_NTP_REQUEST = b"\x23" + 47 * b"\0"  # version 4, mode 3 (client)
_NTP_PORT = 123
_DNS_PORT = 53
_FAMILY = {"ipv4": socket.AF_INET, "ipv6": socket.AF_INET6}


@dataclass(frozen=True)
class Outcome:
    """What one probe met.

    ``kind``: REACHED (the other side answered), REFUSED (it, or a firewall, said no), SILENT
    (nothing came back in time), BLOCKED (this host's own rules refused to send), ERROR (the
    probe could not be carried out, which proves nothing).
    """

    kind: str
    detail: str
    seconds: float

    def as_list(self) -> list[str | float]:
        """Return a form that JSON carries between processes."""
        return [self.kind, self.detail, self.seconds]


def exchange(probes: Sequence[Probe], timeout: float) -> list[Outcome]:
    """Send each probe once and return one outcome for each, in the same order.

    ``timeout`` is each socket's own: it is closed that many seconds after its probe was sent,
    however many others are still waited for. ``Outcome.seconds`` is measured for each.
    """
    outcomes: dict[int, Outcome] = {}
    waiting: dict[int, tuple[float, socket.socket]] = {}
    queue = deque(enumerate(probes))
    with selectors.DefaultSelector() as selector:
        while queue or waiting:
            if queue and len(waiting) < AT_ONCE:
                index, probe = queue.popleft()
                begun = time.monotonic()
                try:
                    sock = _open(probe)
                except OSError as error:
                    outcomes[index] = _from_error(error, time.monotonic() - begun)
                else:
                    wanted = selectors.EVENT_WRITE if probe.proto == "tcp" else selectors.EVENT_READ
                    selector.register(sock, wanted, index)
                    waiting[index] = (begun, sock)
            if not waiting:
                continue
            # The oldest comes first: dictionaries keep the order in which sockets were opened.
            first_ends = next(iter(waiting.values()))[0] + timeout
            may_wait = not queue or len(waiting) >= AT_ONCE
            left = max(0.0, first_ends - time.monotonic()) if may_wait else 0.0
            for key, _ in selector.select(left):
                begun, sock = waiting.pop(key.data)
                selector.unregister(sock)
                outcomes[key.data] = _finish(probes[key.data], sock, time.monotonic() - begun)
            for index, (begun, sock) in list(waiting.items()):
                if time.monotonic() < begun + timeout:
                    break
                selector.unregister(sock)
                sock.close()
                del waiting[index]
                seconds = time.monotonic() - begun
                outcomes[index] = Outcome(SILENT, f"no answer in {timeout:g} s", seconds)
    return [outcomes[index] for index in range(len(probes))]


def _open(probe: Probe) -> socket.socket:
    """Start the exchange.

    Raises:
        OSError: nothing was sent; EPERM means that this host's own rules refused it.
    """
    kind = socket.SOCK_STREAM if probe.proto == "tcp" else socket.SOCK_DGRAM
    sock = socket.socket(_FAMILY[probe.family], kind)
    try:
        sock.setblocking(False)
        with contextlib.suppress(BlockingIOError):  # a TCP connect in progress
            sock.connect((probe.address, probe.port))
        if probe.proto == "udp":
            sock.send(question(probe.port))
    except OSError:
        sock.close()
        raise
    return sock


def question(port: int) -> bytes:
    """Return the datagram to send to a UDP port: an NTP or DNS question, else a marked one."""
    if port == _NTP_PORT:
        return _NTP_REQUEST
    if port == _DNS_PORT:
        # One question: A record of "verify.invalid", recursion wanted.
        header = os.urandom(2) + b"\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00"
        return header + b"\x06verify\x07invalid\x00\x00\x01\x00\x01"
    return b"tresor verify\n"


def _finish(probe: Probe, sock: socket.socket, seconds: float) -> Outcome:
    with sock:
        if probe.proto == "tcp":
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:
                return _from_error(OSError(code, os.strerror(code)), seconds)
            return Outcome(REACHED, "connected", seconds)
        try:
            answer = sock.recv(2048)
        except OSError as error:
            return _from_error(error, seconds)
        return Outcome(REACHED, f"answered with {len(answer)} bytes", seconds)


def _from_error(error: OSError, seconds: float) -> Outcome:
    detail = f"{errno.errorcode.get(error.errno or 0, '?')}: {error.strerror}"
    if error.errno == errno.ECONNREFUSED:
        return Outcome(REFUSED, detail, seconds)
    if error.errno in (errno.EPERM, errno.EACCES):
        return Outcome(BLOCKED, detail, seconds)
    if error.errno == errno.ETIMEDOUT:
        return Outcome(SILENT, detail, seconds)
    return Outcome(ERROR, detail, seconds)
