"""What rsyslog says of itself (impstats), and whether it is connected to the collector."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

QUEUE = "siem"
MAX_STATS_BYTES = 1024 * 1024
_ESTABLISHED = "01"


class Stats:
    """Reads impstats' file as it grows, and keeps it small."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._rest = b""
        self.latest: dict[str, dict[str, Any]] = {}
        """The last counters of each object, by its name."""

    def skip(self) -> None:
        """Leave out what is there already."""
        try:
            self._offset = self._path.stat().st_size
        except OSError:
            self._offset = 0
        self._rest = b""

    def read(self) -> list[dict[str, Any]]:
        """Return the queue's new counters, oldest first; an unreadable file has none."""
        try:
            with self._path.open("rb+") as stream:
                size = os.fstat(stream.fileno()).st_size
                if size < self._offset:
                    self._offset, self._rest = 0, b""
                stream.seek(self._offset)
                data = stream.read()
                self._offset += len(data)
                if self._offset > MAX_STATS_BYTES:
                    # rsyslog appends, so it goes on at the beginning.
                    stream.truncate(0)
                    self._offset, self._rest = 0, b""
        except OSError:
            return []
        *lines, self._rest = (self._rest + data).split(b"\n")
        queue = []
        for entry in parse(lines):
            self.latest[str(entry["name"])] = entry
            if entry["name"] == QUEUE and entry.get("origin") == "core.queue":
                queue.append(entry)
        return queue


def parse(lines: Iterable[bytes]) -> list[dict[str, Any]]:
    """Return the objects in impstats' lines; what is cut off is left out."""
    found = []
    for line in lines:
        start = line.find(b"{")
        try:
            entry = json.loads(line[start:]) if start >= 0 else None
        except ValueError:
            continue
        if isinstance(entry, dict) and "name" in entry:
            found.append(entry)
    return found


def sessions(table: str, peers: Collection[tuple[str, int]], uid: int) -> list[str]:
    """Return the established connections of a user to peers in a table as /proc/net/tcp has it.

    A connection's name is its local end and its inode, so that no later one has the same.
    """
    found = []
    for line in table.splitlines()[1:]:
        fields = line.split()
        if len(fields) < 10 or fields[3] != _ESTABLISHED or fields[7] != str(uid):
            continue
        if _end(fields[2]) in peers:
            found.append(f"{fields[1]}/{fields[9]}")
    return found


def session(peers: Collection[tuple[str, int]], uid: int, net: Path) -> str | None:
    """Return the one established connection to the collector; None for none or several."""
    found: list[str] = []
    for name in ("tcp", "tcp6"):
        try:
            found += sessions((net / name).read_text(), peers, uid)
        except OSError:
            continue
    return found[0] if len(found) == 1 else None


def _end(text: str) -> tuple[str, int]:
    """Return address and port of ``/proc/net/tcp``: 32-bit words in the machine's byte order."""
    address, _, port = text.partition(":")
    raw = bytes.fromhex(address)
    words = b"".join(raw[at : at + 4][::-1] for at in range(0, len(raw), 4))
    family = socket.AF_INET if len(words) == 4 else socket.AF_INET6
    return socket.inet_ntop(family, words), int(port, 16)
