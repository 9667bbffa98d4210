"""Group commit: the event loop hands records over, one thread writes them and syncs the disk."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from tresor_gateway.audit import record as records
from tresor_gateway.audit.chain import Chain
from tresor_gateway.audit.uuid7 import uuid7
from tresor_gateway.audit.waiting import Waiting, Watch, nothing

log = logging.getLogger(__name__)
_RETRY_SECONDS: Final = 0.5
_BATCH: Final = 4096

Done = Callable[[], None]
# A line, and who waits for it.
_Item = tuple[bytes, tuple[Waiting, Done] | None]


class AuditWriter:
    """Accepts records on the event loop; ``healthy`` is false while they cannot be written.

    Nobody may be answered while it is not healthy: a decision without a record does not exist.
    A write that takes longer than ``deadline_seconds`` counts as one that fails, because a disk
    that hangs tells nobody so.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        chain: Chain,
        *,
        commit_seconds: float,
        max_pending: int,
        strict: bool,
        deadline_seconds: float,
    ) -> None:
        self._loop = loop
        self._chain = chain
        self._commit_seconds = commit_seconds
        self._max_pending = max_pending
        self._deadline = deadline_seconds
        self._watch = Watch(deadline_seconds)
        self._pending: deque[_Item] = deque()
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._writing = threading.Thread(target=self._run, name="audit", daemon=True)
        self._problem: str | None = None
        # Two counters, each written by one thread only.
        self._refused = 0
        self._refused_reported = 0
        self._batch: list[_Item] = []
        self._told = False
        # Whether everybody's answers wait for their records.
        self.strict = strict
        self.written = 0
        self.commits = 0

    @property
    def healthy(self) -> bool:
        """Whether records reach the disk."""
        return (
            self._problem is None
            and not self._watch.hangs
            and len(self._pending) < self._max_pending
            # No id: not started yet.
            and (self._writing.ident is None or self._writing.is_alive())
        )

    @property
    def pending(self) -> int:
        """Records that are not on disk yet."""
        return len(self._pending) + len(self._batch)

    @property
    def breaks(self) -> int:
        """How often a chain was found broken at start."""
        return self._chain.breaks

    def start(self) -> None:
        """Open the chain (blocking, once) and begin to write.

        Raises:
            AuditError: the chain cannot be opened.
        """
        self._chain.open()
        self._writing.start()

    def append(self, record: records.Base, then: Done = nothing) -> None:
        """Queue a record and run ``then`` at once."""
        self._queue(record, None)
        then()

    def append_strict(self, record: records.Base, then: Done, late: Done) -> None:
        """Queue a record and run ``then`` when it is on disk, or ``late`` after the deadline."""
        self._queue(record, (Waiting(self._loop, self._deadline, late), then))

    def refuse(self) -> None:
        """Count a request that was refused because there is no record to be had."""
        self._refused += 1
        if not self._told and self._watch.hangs:
            self._told = True
            log.error(
                "writing audit records takes longer than %g s, the disk hangs: all requests are "
                "refused until it does not",
                self._deadline,
            )

    def stop(self, timeout: float = 10.0) -> None:
        """Write what is queued, then close the chain (blocking)."""
        self._stop.set()
        self._wake.set()
        if self._writing.is_alive():
            self._writing.join(timeout)
        if not self._writing.is_alive():
            self._chain.close()

    def _queue(self, record: records.Base, waiting: tuple[Waiting, Done] | None) -> None:
        # Encoded here, where the record is still in the processor's cache; the writer's thread
        # holds up the event loop for as long as it runs Python.
        self._pending.append((self._chain.prepare(record), waiting))
        if not self._wake.is_set():
            self._wake.set()

    # --- writer thread ------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stop.is_set():
            self._wake.wait()
            # Wait for company: everything that arrives within the window shares one sync.
            self._stop.wait(self._commit_seconds)
            self._wake.clear()
            self._drain()
        self._drain()

    def _drain(self) -> None:
        # What arrives during a sync waits for the next window: a thread that syncs all the time
        # takes the interpreter from the event loop hundreds of times a second.
        left = len(self._pending)
        while self._batch or left > 0:
            while self._pending and len(self._batch) < _BATCH:
                self._batch.append(self._pending.popleft())
            self._watch.begin()
            try:
                self._write()
            except Exception as error:
                # Whatever it is: a thread that ends here would leave requests without a record.
                self._watch.end()
                self._suspend(error)
                if self._stop.wait(_RETRY_SECONDS):
                    return
                continue
            left -= len(self._batch)
            self.written += len(self._batch)
            self.commits += 1
            waiting = [item for _, item in self._batch if item is not None]
            self._batch = []
            if waiting:
                self._call(waiting)
            seconds = self._watch.end()
            if seconds:
                self._after_hanging(seconds)

    def _write(self) -> None:
        items = [line for line, _ in self._batch]
        if self._problem is None:
            self._chain.append(items)
            return
        refused = self._refused
        self._chain.append([*items, self._gap(refused, self._problem)])
        self._refused_reported = refused
        self._problem = None

    def _gap(self, refused: int, problem: str) -> records.Gap:
        return records.Gap(
            id=uuid7(),
            time=records.timestamp(time.time()),
            refused=refused - self._refused_reported,
            problem=problem,
        )

    def _after_hanging(self, seconds: float) -> None:
        """The disk has come back: say so in the log and in the chain, by the next write."""
        log.error("writing audit records took %.1f s", seconds)
        refused = self._refused
        gap = self._gap(refused, f"a write took {round(seconds)} s")
        self._refused_reported = refused
        self._told = False
        self._batch = [(self._chain.prepare(gap), None)]

    def _suspend(self, error: Exception) -> None:
        known = isinstance(error, OSError)
        problem = (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
        if self._problem is None:
            log.error(
                "audit records cannot be written (%s): all requests are refused until they can",
                problem,
                exc_info=None if known else error,
            )
        self._problem = problem

    def _call(self, waiting: list[tuple[Waiting, Done]]) -> None:
        def run() -> None:
            for answer, then in waiting:
                if answer.in_time():
                    then()

        # The loop may be closed when the last batch of a shutdown is written.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(run)
