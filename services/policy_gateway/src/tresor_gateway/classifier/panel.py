"""All classifiers of a direction, asked at the same time; the gravest verdict counts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from tresor_gateway.classifier.client import Asked, Categories, Classifier
from tresor_gateway.classifier.kinds import Case
from tresor_gateway.guardrails.errors import BlockedError, GuardrailError
from tresor_gateway.guardrails.pipeline import Guard, Verdict
from tresor_gateway.guardrails.policy import Direction, graver
from tresor_gateway.metrics.gateway import GatewayMetrics

PREFIX: Final = "classifier"
# None: it may pass.
Outcome = Callable[["GuardrailError | None"], None]


class Session:
    """What the classifiers of one request say; ``verdicts`` are theirs by model."""

    def __init__(
        self,
        classifiers: Sequence[Classifier],
        guard: Guard,
        tenant: bytes,
        request_id: bytes,
        metrics: GatewayMetrics,
    ) -> None:
        self._classifiers = classifiers
        self._guard = guard
        self._tenant = tenant
        self._request_id = request_id
        self._metrics = metrics
        self._asked: set[Asked] = set()
        self._left = 0
        self.verdicts: dict[str, str] = {}

    def wants(self, direction: Direction) -> list[Classifier]:
        """Those who judge this direction."""
        return [c for c in self._classifiers if getattr(c.settings, direction)]

    def judge(
        self, direction: Direction, cases: Sequence[tuple[Classifier, Case]], outcome: Outcome
    ) -> None:
        """Judge the cases; ``outcome`` hears once, maybe before this returns."""
        self._left = len(cases)
        if not cases:
            outcome(None)
            return
        open_ = True

        def hear(classifier: Classifier, found: Categories | GuardrailError) -> None:
            nonlocal open_
            if not open_:
                return
            self._left -= 1
            problem = self._note(direction, classifier, found)
            if problem is not None or self._left == 0:
                open_ = False
                self.cancel()
                outcome(problem)

        for classifier, case in cases:
            if not open_:
                return
            self._ask(classifier, case, hear)

    def cancel(self) -> None:
        """Nobody waits any more."""
        asked, self._asked = self._asked, set()
        for question in asked:
            question.cancel()

    def _ask(
        self,
        classifier: Classifier,
        case: Case,
        hear: Callable[[Classifier, Categories | GuardrailError], None],
    ) -> None:
        question: Asked | None = None

        def done(found: Categories | GuardrailError) -> None:
            if question is not None:
                self._asked.discard(question)
            hear(classifier, found)

        question = classifier.ask(case, self._tenant, self._request_id, done)
        if question is not None and question.pending:
            self._asked.add(question)

    def _note(
        self, direction: Direction, classifier: Classifier, found: Categories | GuardrailError
    ) -> GuardrailError | None:
        """Take a verdict down; what speaks against passing."""
        model, settings = classifier.model.name, classifier.settings
        if isinstance(found, GuardrailError):
            self.verdicts[model] = "failed"
            self._metrics.classifier_verdicts.add(model, direction, "failed")
            return found
        verdict = self._guard.verdicts.setdefault(direction, Verdict())
        mine = Verdict()
        for category in found:
            action = settings.categories.get(category, settings.default)
            if action != "allow":
                verdict.add(f"{PREFIX}.{category}", action)
                mine.add(category, action)
        before = self.verdicts.get(model, "allow")
        if before != "failed":
            self.verdicts[model] = graver(before, mine.action)  # type: ignore[arg-type]
        self._metrics.classifier_verdicts.add(model, direction, mine.action)
        if mine.action == "block":
            return BlockedError(", ".join(f"{PREFIX}.{name}" for name in mine.findings))
        return None
