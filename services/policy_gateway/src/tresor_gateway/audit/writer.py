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

log = logging.getLogger(__name__)
_RETRY_SECONDS: Final = 0.5
_BATCH: Final = 4096

Done = Callable[[], None]


class AuditWriter:
    """Accepts records on the event loop; ``healthy`` is false while they cannot be written.

    Nobody may be answered while it is not healthy: a decision without a record does not exist.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        chain: Chain,
        *,
        commit_seconds: float,
        max_pending: int,
        strict: bool,
    ) -> None:
        self._loop = loop
        self._chain = chain
        self._commit_seconds = commit_seconds
        self._max_pending = max_pending
        self._strict = strict
        self._pending: deque[tuple[bytes, Done | None]] = deque()
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._writing = threading.Thread(target=self._run, name="audit", daemon=True)
        self._problem: str | None = None
        # Two counters, each written by one thread only.
        self._refused = 0
        self._refused_reported = 0
        self._batch: list[tuple[bytes, Done | None]] = []
        self.written = 0
        self.commits = 0

    @property
    def healthy(self) -> bool:
        """Whether records reach the disk."""
        return (
            self._problem is None
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

    def append(self, record: records.Base, then: Done, *, strict: bool = False) -> None:
        """Queue a record and run ``then``: at once, or if it is strict when it is on disk."""
        strict = strict or self._strict
        # Encoded here, where the record is still in the processor's cache; the writer's thread
        # holds up the event loop for as long as it runs Python.
        self._pending.append((self._chain.prepare(record), then if strict else None))
        if not self._wake.is_set():
            self._wake.set()
        if not strict:
            then()

    def refuse(self) -> None:
        """Count a request that was refused because there is no record to be had."""
        self._refused += 1

    def stop(self, timeout: float = 10.0) -> None:
        """Write what is queued, then close the chain (blocking)."""
        self._stop.set()
        self._wake.set()
        if self._writing.is_alive():
            self._writing.join(timeout)
        if not self._writing.is_alive():
            self._chain.close()

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
            try:
                self._write()
            except Exception as error:
                # Whatever it is: a thread that ends here would leave requests without a record.
                self._suspend(error)
                if self._stop.wait(_RETRY_SECONDS):
                    return
                continue
            left -= len(self._batch)
            self.written += len(self._batch)
            self.commits += 1
            waiting = [then for _, then in self._batch if then is not None]
            self._batch = []
            if waiting:
                self._call(waiting)

    def _write(self) -> None:
        items = [line for line, _ in self._batch]
        if self._problem is None:
            self._chain.append(items)
            return
        refused = self._refused
        gap = records.Gap(
            id=uuid7(),
            time=records.timestamp(time.time()),
            refused=refused - self._refused_reported,
            problem=self._problem,
        )
        self._chain.append([*items, gap])
        self._refused_reported = refused
        self._problem = None

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

    def _call(self, waiting: list[Done]) -> None:
        def run() -> None:
            for then in waiting:
                then()

        # The loop may be closed when the last batch of a shutdown is written.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(run)
