"""Which messages the collector is proven to have: pure arithmetic on rsyslog's counters.

rsyslog counts what its queue took (``enqueued``) and still holds (``size``, the batch in work
included). Its RELP output sends message n + window only after message n was acknowledged. So of
the messages that left the queue while one and the same connection to the collector lasted, all but
the last ``window`` are acknowledged. Another connection proves nothing about messages sent before
it: they are sent again.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Sample:
    """rsyslog's counters, and the name of the established connection to the collector, if any."""

    enqueued: int
    size: int
    session: str | None


@dataclass(frozen=True)
class Verdict:
    """What a sample says: ``proven`` counts messages of this link, ``restart``: send again."""

    proven: int = 0
    restart: bool = False


class Proof:
    """Follows the samples of one link, a link being one connection of ours to one rsyslogd."""

    def __init__(self, window: int) -> None:
        self._window = window
        self._last: Sample | None = None
        self._base: int | None = None
        self._first = 0
        self._session: str | None = None
        self.done = 0
        """Messages of this link that have left rsyslog's queue, by a careful count."""

    @property
    def ready(self) -> bool:
        """Whether it is known where this link's messages begin in rsyslog's count."""
        return self._base is not None

    @property
    def session(self) -> str | None:
        """The connection that messages are sent over now."""
        return self._session

    def take(self, sample: Sample, sent: int) -> Verdict:
        """Take a sample in; ``sent`` is the number of messages handed over on this link."""
        last, self._last = self._last, sample
        if self._base is None:
            # What an earlier link handed over is still coming in until the count stands still.
            if last is None or last.enqueued != sample.enqueued:
                return Verdict()
            self._base = sample.enqueued
        before = sample.enqueued if last is None else min(last.enqueued, sample.enqueued)
        # The counters are not read at one moment: the older count of the two cannot be too high.
        self.done = max(self.done, min(before - sample.size - self._base, sent))
        if sample.session is None:
            self._session = None
            return Verdict()
        if sample.session != self._session:
            self._session = sample.session
            self._first = sent
            return Verdict(restart=True)
        proven = self.done - self._window
        return Verdict(proven=proven if proven > self._first else 0)
