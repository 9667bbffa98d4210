"""One command's hold on the store: the lock, the two records, the marks, the present time."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

from .errors import EnvironmentNotReadyError
from .fit import Machine
from .journal import AppendLog, Value
from .layout import Store
from .marks import Marks


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a command ended; ``changed`` tells whether anything on disk is different."""

    state: str
    release: str
    bundle: str
    changed: bool
    message: str

    def as_json(self) -> dict[str, str | bool]:
        """Return the outcome for machines."""
        return {
            "state": self.state,
            "release": self.release,
            "bundle_sha256": self.bundle,
            "changed": self.changed,
            "message": self.message,
        }


@contextmanager
def locked(store: Store) -> Iterator[None]:
    """Let one importer work at a time; the lock ends with the process.

    Raises:
        EnvironmentNotReadyError: ``environment.store``, ``environment.locked``.
    """
    try:
        store.create()
        descriptor = os.open(store.state / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise EnvironmentNotReadyError(
            "environment.store", f"cannot use the store: {error.strerror}", str(store.root)
        ) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(descriptor, 20, 0).decode(errors="replace").strip() or "unknown"
            raise EnvironmentNotReadyError(
                "environment.locked",
                f"another importer works on this store (process {holder}); wait for it",
                str(store.root),
            ) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


class Session:
    """What every command on a store shares; commands that write run inside :func:`locked`."""

    def __init__(
        self,
        store: Store,
        *,
        now: datetime | None = None,
        machine: Machine | None = None,
        quiet: bool = False,
    ) -> None:
        self.store = store
        self.now = now or datetime.now(UTC)
        self.machine = machine or Machine.here()
        self.quiet = quiet
        self.marks = Marks(store)

    @cached_property
    def journal(self) -> AppendLog:
        """Return the state machine's journal; opening it repairs a line cut short."""
        return AppendLog(self.store.journal)

    @cached_property
    def events(self) -> AppendLog:
        """Return the audit events, which also go to the system's log."""
        return AppendLog(self.store.events, "tresor-bundle")

    def step(self, state: str, bundle: str, **more: Value) -> None:
        """Write the state into the journal and wait until it is on disk."""
        self.journal.append({"state": state, "bundle": bundle, **more})

    def event(self, event: str, **more: Value) -> None:
        """Write an audit event and wait until it is on disk."""
        self.events.append({"event": event, **more})

    def present(self) -> datetime:
        """Return the present time, never earlier than any signed time seen."""
        return max(self.now, self.marks.floor())

    def quarantine(self, digest: str) -> Path:
        """Return a new place for the reason of a refusal."""
        stamp = f"{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}"
        return self.store.root / "quarantine" / f"{stamp}-{digest[:16]}"
