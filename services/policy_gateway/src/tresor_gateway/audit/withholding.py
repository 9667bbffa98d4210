"""An answer that leaves when its record is on disk, or is held back when that takes too long."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tresor_gateway.audit.record import Decision

if TYPE_CHECKING:
    from tresor_gateway.call import Call


class StrictAnswer:
    """What happens to a call in either case; an object, as functions would know each other."""

    __slots__ = ("_call", "_now", "_record", "_then")

    def __init__(self, call: Call, record: Decision, now: int, then: Callable[[], None]) -> None:
        """``now`` is the monotonic time (ns) at which the record was made."""
        self._call = call
        self._record = record
        self._now = now
        self._then = then

    def complete(self) -> None:
        """The record is on disk."""
        self._call.count(self._record, self._now)
        self._then()

    def withhold(self) -> None:
        """It is not, and it is too late."""
        self._call.withhold(self._record, self._now)
