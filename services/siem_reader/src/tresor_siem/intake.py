"""From the sources into the spool: one batch at a time, and not while the spool has no room."""

from __future__ import annotations

import errno
import os

from tresor_siem import journal, shape_files, shape_journal
from tresor_siem.config import Config
from tresor_siem.record import message
from tresor_siem.spool import Spool
from tresor_siem.tail import Tail

CURSOR = "journal"
SCAN_SECONDS = 0.5
MAX_ROUND_BYTES = 4 * 1024 * 1024
"""About what one round takes in, so that sending is never kept waiting for long."""
_ROOM_SECONDS = 1.0


class Intake:
    """All sources of a host."""

    def __init__(self, config: Config, spool: Spool) -> None:
        self._config = config
        self._spool = spool
        self._journal = journal.Journal()
        self._tails = [Tail(source, config.host) for source in config.files]
        self._scanned = self._looked = self._restarted = float("-inf")
        self._more = False
        self.submitted: dict[str, int] = {CURSOR: 0} | {s.name: 0 for s in config.files}
        self.lost_journal_entries = 0
        self.blocked: str | None = None

    @property
    def unreadable(self) -> dict[str, str]:
        """Files that could not be read at the last look, with the reason."""
        return {path: why for tail in self._tails for path, why in tail.unreadable.items()}

    def descriptor(self) -> int | None:
        """Return what to wait for while there is room, or None."""
        return None if self.blocked else self._journal.fileno()

    def close(self) -> None:
        """End what follows the journal."""
        self._journal.stop()

    def take(self, now: float, wall: float) -> bool:
        """Take in what is new; return whether there may be more at once.

        ``now`` is monotonic, ``wall`` seconds since 1970. A full disk is noted in ``blocked``.
        """
        self._look_for_room(now)
        if self.blocked:
            return False
        try:
            more = self._take_journal(now)
            if now - self._scanned >= SCAN_SECONDS or self._more:
                self._scanned = now
                self._more = self._take_files(wall)
        except OSError as error:
            if error.errno not in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
                raise
            self.blocked = f"the spool cannot grow: {error.strerror}"
            self._looked = now
            # What was read and not kept must be delivered again.
            self._journal.stop()
            return False
        return more or self._more

    def _look_for_room(self, now: float) -> None:
        if now - self._looked < _ROOM_SECONDS:
            return
        self._looked = now
        used = self._spool.size()
        disk = os.statvfs(self._config.spool)
        free = disk.f_bavail * disk.f_frsize
        self.blocked = None
        if used >= self._config.max_spool_bytes:
            self.blocked = f"the spool holds {used} bytes, its limit"
        elif free < self._config.min_free_bytes:
            self.blocked = f"{free} bytes are free beside the spool, fewer than its reserve"

    def _take_journal(self, now: float) -> bool:
        positions = self._spool.positions
        if self._journal.fileno() is None:
            if now - self._restarted < 1.0:
                return False
            self._restarted = now
            self._journal.start(positions.get(CURSOR))
        entries = self._journal.read()
        if not entries:
            return False
        host = self._config.host
        messages = [message(shape_journal.shape(entry, host), host) for entry in entries]
        self._count_gaps(positions.get(CURSOR), [entry["__CURSOR"] for entry in entries])
        self._spool.append(messages, {CURSOR: entries[-1]["__CURSOR"]})
        self.submitted[CURSOR] += len(messages)
        return True

    def _count_gaps(self, before: object, cursors: list[str]) -> None:
        """Count entries that journald removed before they were read."""
        last = journal.sequence(before) if isinstance(before, str) else None
        for cursor in cursors:
            here = journal.sequence(cursor)
            if last is not None and here is not None and last[0] == here[0]:
                self.lost_journal_entries += max(0, here[1] - last[1] - 1)
            last = here

    def _take_files(self, wall: float) -> bool:
        host = self._config.host
        taken = 0
        for tail in self._tails:
            shaper = shape_files.SHAPERS[tail.source.name]
            for batch in tail.batches(self._spool.positions, wall):
                messages = [message(shaper(line), host) for line in batch.lines]
                self._spool.append(messages, batch.changed)
                self.submitted[tail.source.name] += len(messages)
                # Counted here: offsets begin anew with each of the spool's segments.
                taken += sum(map(len, messages))
                if taken > MAX_ROUND_BYTES:
                    return True
        return False
