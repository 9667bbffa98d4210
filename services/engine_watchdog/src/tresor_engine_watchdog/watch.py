"""One engine's watch: ask, look whether it moves, count, and end it when it hangs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tresor_engine_watchdog.config import Config
from tresor_engine_watchdog.question import Answer, Asked, Moves, moves
from tresor_engine_watchdog.state import Record
from tresor_engine_watchdog.unit import Shown, Unit

Audit = Callable[..., None]


@dataclass(frozen=True)
class Eyes:
    """How the watch sees an engine: a question, its metrics, and where evidence goes."""

    ask: Callable[[], Asked]
    metrics: Callable[[], str | None]
    evidence: Callable[[Shown, str, str | None, float], str]


class Watch:
    """Holds what one start of an engine showed; what must last is in the record.

    A start counts only once it has answered: what still loads or compiles never hangs here.
    `keep` writes the record to disk. It is called before an action, so that a watchdog that ends in
    one does not forget that it was taken.
    """

    def __init__(
        self,
        config: Config,
        record: Record,
        *,
        unit: Unit,
        eyes: Eyes,
        audit: Audit,
        keep: Callable[[], None],
    ) -> None:
        """Take the parts; nothing is done yet."""
        self._config = config
        self.record = record
        self._unit = unit
        self._eyes = eyes
        self._audit = audit
        self._keep = keep
        self.failures = 0
        self.looked = 0.0
        self._seen: Moves | None = None
        self._invocation = ""
        self._silent_since = 0.0

    def turn(self, now: float) -> None:
        """Look once. `now` is in seconds since 1970."""
        self.looked = now
        shown = self._unit.show()
        if not shown.running:
            self._forget()
            return
        if shown.invocation != self._invocation:
            self._begin(shown.invocation)
        asked = self._eyes.ask()
        if asked.answer is Answer.GIVEN:
            self._answered(now)
        elif asked.answer is Answer.AWAY:
            self._forget()
        else:
            self._silent(shown, asked, now)

    def _begin(self, invocation: str) -> None:
        self._forget()
        self._invocation = invocation
        if self.record.stopped:
            self.record.stopped = False
            self._audit("started_again")
            self._keep()

    def _forget(self) -> None:
        self.failures = 0
        self._seen = None

    def _answered(self, now: float) -> None:
        if self.failures:
            self._audit("answers", after_seconds=round(now - self._silent_since))
        self._forget()
        if self.record.answered != self._invocation:
            self.record.answered = self._invocation
            self._audit("serves", invocation=self._invocation)
            self._keep()

    def _silent(self, shown: Shown, asked: Asked, now: float) -> None:
        """No answer. A hang only if the engine has answered before and makes no step at all."""
        text = self._eyes.metrics()
        found = moves(text)
        if self.record.answered != self._invocation and not (found and found.worked):
            return
        moved = found is not None and self._seen is not None and found != self._seen
        if found is not None:
            self._seen = found
        if moved:
            if self.failures:
                self._audit("busy", detail=asked.detail)
            self.failures = 0
            return
        self.failures += 1
        if self.failures == 1:
            self._silent_since = now
            self._audit("silent", detail=asked.detail)
        if self.failures >= self._config.failures:
            self._hangs(shown, asked, text, now)

    def _hangs(self, shown: Shown, asked: Asked, text: str | None, now: float) -> None:
        seconds = round(now - self._silent_since)
        why = f"{self.failures} questions in {seconds} s: {asked.detail}, and it made no step"
        kept = self._eyes.evidence(shown, why, text, now)
        self._audit("hangs", questions=self.failures, seconds=seconds, evidence=kept)
        recent = self.record.recent(now)
        if recent >= self._config.hourly_cap:
            self.record.stopped = True
            self._keep()
            problem = "; ".join(filter(None, (self._unit.kill(), self._unit.stop())))
            self._audit("stopped", restarts_in_an_hour=recent, problem=problem)
        else:
            self.record.note(now)
            self._keep()
            problem = self._unit.kill()
            self._audit("killed", restarts_in_an_hour=recent + 1, problem=problem)
        self._forget()
