"""Group commit of content: the event loop hands it over, one thread seals, writes and syncs it."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Final, NamedTuple

from tresor_gateway.audit.record import ContentRef
from tresor_gateway.audit.waiting import Waiting, Watch
from tresor_gateway.content.crypto import ContentError, Owner
from tresor_gateway.content.policy import Kept
from tresor_gateway.content.store import Item, Store

log = logging.getLogger(__name__)
_RETRY_SECONDS: Final = 0.5
_FORGET_SECONDS: Final = 60.0
_BATCH: Final = 256

Done = Callable[[ContentRef | None], None]


@dataclass(frozen=True)
class Entry:
    """What a request leaves; ``text`` is made by the writer's thread, ``size`` bounds the queue."""

    owner: Owner
    record: str
    kept: Kept
    text: Callable[[], bytes]
    size: int
    done: Done


class _Waiting(NamedTuple):
    entry: Entry
    waiting: Waiting


class ContentWriter:
    """Keeps content. Each entry is told where it is, or that it could not be kept in time.

    What reaches the disk after ``deadline_seconds`` stays there as what a crash leaves: sealed
    content whose record says that it was not kept.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        store: Store,
        *,
        commit_seconds: float,
        max_pending_bytes: int,
        deadline_seconds: float,
    ) -> None:
        self._loop = loop
        self._store = store
        self._commit_seconds = commit_seconds
        self._max_pending = max_pending_bytes
        self._deadline = deadline_seconds
        self._watch = Watch(deadline_seconds)
        self._pending: deque[_Waiting] = deque()
        self._pending_bytes = 0
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="content", daemon=True)
        self._problem: str | None = None
        self.kept = 0
        self.kept_bytes = 0
        self.failed = 0
        self.commits = 0

    @property
    def healthy(self) -> bool:
        """Whether content can be kept now; if not, nobody is answered whose content must be."""
        return (
            self._problem is None
            and not self._watch.hangs
            and self._pending_bytes < self._max_pending
            and self._thread.is_alive()
        )

    @property
    def pending_bytes(self) -> int:
        """What is not on disk yet."""
        return self._pending_bytes

    @property
    def free_bytes(self) -> int:
        """What the file system has left; 0 when it cannot be asked."""
        try:
            return self._store.free_bytes
        except OSError:
            return 0

    def start(self) -> None:
        """Begin to write.

        Raises:
            ContentError: the store cannot be written to.
        """
        try:
            self._store.probe()
        except OSError as error:
            raise ContentError(
                f"content.directory: {error}; check owner, mode and space"
            ) from error
        self._thread.start()

    def keep(self, entry: Entry) -> None:
        """Queue an entry; its ``done`` runs on the event loop, at once if there is no hope."""
        if not self.healthy:
            self.failed += 1
            entry.done(None)
            return
        self._pending_bytes += entry.size
        waiting = Waiting(self._loop, self._deadline, partial(self._late, entry))
        self._pending.append(_Waiting(entry, waiting))
        if not self._wake.is_set():
            self._wake.set()

    def _late(self, entry: Entry) -> None:
        self.failed += 1
        log.error("content of record %s is not on disk after %g s", entry.record, self._deadline)
        entry.done(None)

    def stop(self, timeout: float = 10.0) -> None:
        """Write what is queued (blocking)."""
        self._stop.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout)
        if not self._thread.is_alive():
            self._store.close()

    # --- writer thread ------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stop.is_set():
            if not self._wake.wait(_RETRY_SECONDS if self._problem else _FORGET_SECONDS):
                self._idle()
                continue
            # Wait for company: everything that arrives within the window shares one sync.
            self._stop.wait(self._commit_seconds)
            self._wake.clear()
            self._drain()
        self._drain()

    def _idle(self) -> None:
        self._store.forget()
        if self._problem is None:
            return
        try:
            self._store.probe()
        except Exception as error:
            self._suspend(error)
        else:
            log.info("content can be kept again")
            self._problem = None

    def _drain(self) -> None:
        while self._pending:
            batch: list[_Waiting] = []
            while self._pending and len(batch) < _BATCH:
                item = self._pending.popleft()
                if batch and item.entry.owner.day != batch[0].entry.owner.day:
                    self._pending.appendleft(item)
                    break
                batch.append(item)
            self._watch.begin()
            refs = self._write([item.entry for item in batch])
            seconds = self._watch.end()
            if seconds:
                log.error("writing content took %.1f s", seconds)
            self._tell(batch, refs)

    def _write(self, batch: list[Entry]) -> list[ContentRef | None]:
        """Where the entries are; nothing for those that could not be kept."""
        try:
            items = [Item(e.owner, e.record, e.kept, _text(e)) for e in batch]
            refs = self._store.append(batch[0].owner.day, items)
        except ContentError as error:
            if len(batch) > 1:
                # One person's key, or one answer, is no reason to refuse the others.
                return [ref for entry in batch for ref in self._write([entry])]
            log.error("content of record %s cannot be kept: %s", batch[0].record, error)
        except Exception as error:
            # Whatever it is: whoever waits must hear of it.
            self._suspend(error)
        else:
            self.kept += len(batch)
            self.kept_bytes += sum(ref.bytes for ref in refs)
            self.commits += 1
            return list(refs)
        self.failed += len(batch)
        return [None] * len(batch)

    def _suspend(self, error: Exception) -> None:
        known = isinstance(error, OSError)
        problem = str(error) if known else type(error).__name__
        if self._problem is None:
            log.error(
                "content cannot be kept (%s): requests whose content must be are refused",
                problem,
                exc_info=None if known else error,
            )
        self._problem = problem

    def _tell(self, batch: list[_Waiting], refs: list[ContentRef | None]) -> None:
        def run() -> None:
            for item, ref in zip(batch, refs, strict=True):
                self._pending_bytes -= item.entry.size
                if item.waiting.in_time():
                    item.entry.done(ref)

        # The loop may be closed when the last batch of a shutdown is written.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(run)


def _text(entry: Entry) -> bytes:
    try:
        return entry.text()
    except Exception as error:
        raise ContentError(f"its text cannot be made ({type(error).__name__})") from error
