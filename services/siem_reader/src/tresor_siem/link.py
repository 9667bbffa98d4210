"""The connection to rsyslog's input: octet-counted messages, never blocking, bounded in flight."""

from __future__ import annotations

import os
import signal
import socket
import struct
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from tresor_siem.proof import Proof, Sample
from tresor_siem.spool import Place, Spool

KNOCK_SECONDS = 5.0
MAX_KNOCKS = 3
"""So many messages may disappear without a connection: one or two show rsyslog a broken one."""
STUCK_SECONDS = 30.0
"""So long may a message wait for a connection: after a failed handshake omrelp can hang."""
_PEER = struct.Struct("3i")  # process, user, group
_BUFFER = 256 * 1024


class Link:
    """One connection to one rsyslogd. ``limit``: messages that may wait in rsyslog's queue."""

    def __init__(self, path: Path, spool: Spool, window: int, limit: int) -> None:
        """Connect; raises OSError while rsyslog does not listen."""
        self._spool = spool
        self._limit = limit
        self.proof = Proof(window)
        self._sent = 0
        self._waiting = 0
        self._places: deque[tuple[int, Place]] = deque()
        self._source: Iterator[tuple[bytes, Place]] = iter(())
        self._next = spool.proven
        self._pending = memoryview(b"")
        self._knocked = float("-inf")
        self._knocks = 0
        self.proven_messages = 0
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.settimeout(5)
            self._socket.connect(str(path))
            self._socket.setblocking(False)
        except OSError:
            self._socket.close()
            raise

    def close(self) -> None:
        """Close the connection; what is not proven is sent again over the next one."""
        self._socket.close()

    def fileno(self) -> int:
        """Return the descriptor to wait for."""
        return self._socket.fileno()

    @property
    def wants_to_send(self) -> bool:
        """Whether bytes wait that the socket did not take."""
        return len(self._pending) > 0

    def observe(self, sample: Sample) -> None:
        """Take counters in: note what is proven, or begin again over a new connection."""
        verdict = self.proof.take(sample, self._sent)
        self._waiting = sample.size
        if verdict.restart:
            self._places.clear()
            self._next = self._spool.proven
            self._source = iter(())
        place = None
        while self._places and self._places[0][0] <= verdict.proven:
            place = self._places.popleft()[1]
            self.proven_messages += 1
        if place is not None:
            self._spool.prove(place)

    def pump(self, now: float) -> None:
        """Hand over what may go now; raises OSError when rsyslog is gone.

        Without a connection to the collector only one message goes now and then, to have rsyslog
        connect: all would have to go again once it has. ``now`` is a monotonic time in seconds.
        """
        if not self.proof.ready:
            self._notice_end()
            return
        while self._flush():
            outstanding = max(self._sent - self.proof.done, self._waiting)
            if self.proof.session is None:
                if outstanding and now - self._knocked >= STUCK_SECONDS:
                    self._restart_rsyslog()
                if outstanding or now - self._knocked < KNOCK_SECONDS:
                    break
                if self._knocks >= MAX_KNOCKS:
                    self._restart_rsyslog()
                self._knocks += 1
            else:
                self._knocks = 0
                if outstanding >= self._limit:
                    break
            entry = next(self._source, None)
            if entry is None:
                self._source = self._spool.read(self._next)
                entry = next(self._source, None)
                if entry is None:
                    break
            data, self._next = entry
            self._pending = memoryview(b"%d %s" % (len(data), data))
            self._sent += 1
            self._places.append((self._sent, self._next))
            self._knocked = now
        self._notice_end()

    def _restart_rsyslog(self) -> None:
        """End rsyslog, which systemd starts again: it connects to nobody.

        Once the collector's certificate was refused, omrelp can hang or switch its action off for
        good; that must end when the certificate is right again. During an outage it does no harm.
        """
        credentials = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
        os.kill(_PEER.unpack(credentials)[0], signal.SIGTERM)
        raise ConnectionResetError("rsyslog was ended: its output is switched off")

    def _flush(self) -> bool:
        """Send the message that is under way; return whether it is out."""
        while self._pending:
            try:
                taken = self._socket.send(self._pending[:_BUFFER])
            except BlockingIOError:
                return False
            self._pending = self._pending[taken:]
        return True

    def _notice_end(self) -> None:
        """Raise ConnectionError when the other side has closed; it never sends anything."""
        try:
            data = self._socket.recv(64)
        except BlockingIOError:
            return
        if not data:
            raise ConnectionResetError("rsyslog closed its input")
