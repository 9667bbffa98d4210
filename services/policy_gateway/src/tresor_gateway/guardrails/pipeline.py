"""The stages in their order, for each direction; a verdict, or an exception that means refusal."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Final, Literal

from tresor_gateway.guardrails.errors import BlockedError
from tresor_gateway.guardrails.findings import Findings, Span, disjoint
from tresor_gateway.guardrails.inspector import Clock, Inspector
from tresor_gateway.guardrails.masking import PLACEHOLDER, Placeholders
from tresor_gateway.guardrails.policy import (
    DIRECTIONS,
    INJECTION,
    Action,
    Direction,
    Policy,
    graver,
)
from tresor_gateway.guardrails.screening import Screen
from tresor_gateway.guardrails.stream import StreamMasker

_SHORT: Final = 1024
_FEW: Final = 64
_WORTH_KNOWING: Final = 64
_MAX_KNOWN: Final = 2048


@dataclass
class Verdict:
    """What the stages say about a direction; ``findings`` counts by kind or rule."""

    action: Action = "allow"
    findings: dict[str, int] = field(default_factory=dict)

    def add(self, name: str, action: Action) -> None:
        """One more finding."""
        if action != self.action:
            self.action = graver(self.action, action)
        self.findings[name] = self.findings.get(name, 0) + 1


class Part:
    """A text of a request; injection is not looked for in what only the application writes."""

    __slots__ = ("screened", "text")

    def __init__(self, text: str, screened: bool = True) -> None:
        self.text = text
        self.screened = screened


class Pipeline:
    """All stages with their compiled patterns; one per process."""

    def __init__(self, policy: Policy, *, clock: Clock = time.thread_time) -> None:
        self.policy = policy
        self._clock = clock
        self.cleans_responses = policy.response.active
        injection = (policy.request.injection, policy.context.injection)
        self._screen = Screen() if injection != ("allow", "allow") else None
        self._known: dict[bytes, Findings] = {}
        self._known_before: dict[bytes, Findings] = {}
        self._inspectors: dict[Direction, Inspector] = {}
        made: dict[frozenset[str], Inspector] = {}
        for direction in DIRECTIONS:
            kinds = policy.of(direction).wanted
            if kinds not in made:
                made[kinds] = Inspector(kinds, clock=clock)
            self._inspectors[direction] = made[kinds]
        self._answers = self._inspectors["response"]

    def guard(self, tenant: bytes = b"") -> Guard:
        """A fresh guard for one request.

        Within a tenant (up to 64 bytes that stand for it), a text that was judged before is not
        judged again: clients send the whole conversation with every question.
        """
        return Guard(self, tenant)

    def inspect(
        self,
        direction: Direction,
        parts: Sequence[Part],
        verdict: Verdict,
        tenant: bytes = b"",
    ) -> list[list[Span]]:
        """The spans of every part; verdict and counts go to ``verdict``.

        Raises:
            GuardrailError: no verdict could be reached.
        """
        rules = self.policy.of(direction)
        inspector = self._inspectors[direction]
        screen = self._screen if rules.injection != "allow" else None
        # What is short is done before a clock has been read a few times.
        length = 0
        for part in parts:
            length += len(part.text)
        timed = length > _SHORT or len(parts) > _FEW
        deadline = self._clock() + self.policy.deadline_seconds if timed else None
        spans: list[list[Span]] = []
        for part in parts:
            if not part.text:
                spans.append([])
                continue
            own = screen if part.screened else None
            if tenant and len(part.text) >= _WORTH_KNOWING:
                found = self._known_or_new(inspector, part.text, deadline, own, tenant)
            else:
                found = inspector.inspect(part.text, deadline, own)
            if found.spans:
                kinds = rules.kinds
                for span in found.spans:
                    verdict.add(span.kind, kinds[span.kind])
            if found.rules:
                for rule in found.rules:
                    verdict.add(f"{INJECTION}.{rule}", rules.injection)
            spans.append(found.spans)
        return spans

    def inspect_answer(self, text: str, verdict: Verdict) -> list[Span]:
        """The spans of one text of an answer; the same as ``inspect`` without its lists.

        Raises:
            GuardrailError: no verdict could be reached.
        """
        rules = self.policy.response
        deadline = self._clock() + self.policy.deadline_seconds if len(text) > _SHORT else None
        screen = self._screen if rules.injection != "allow" else None
        found = self._answers.inspect(text, deadline, screen)
        spans = found.spans
        if spans:
            kinds = rules.kinds
            for span in spans:
                verdict.add(span.kind, kinds[span.kind])
        if found.rules:
            for rule in found.rules:
                verdict.add(f"{INJECTION}.{rule}", rules.injection)
        return spans

    def _known_or_new(
        self,
        inspector: Inspector,
        text: str,
        deadline: float | None,
        screen: Screen | None,
        tenant: bytes,
    ) -> Findings:
        """Findings by a digest of the text, keyed with the tenant: no text is kept, and nobody
        learns from the time an answer takes what another tenant has sent."""
        scope = inspector.screened_scope if screen is not None else inspector.scope
        data = text.encode("utf-8", "replace")
        digest = blake2b(data, digest_size=16, key=tenant, person=scope).digest()
        found = self._known.get(digest)
        if found is None:
            found = self._known_before.get(digest)
            if found is None:
                found = inspector.inspect(text, deadline, screen)
            # Two generations: what nobody asks about for one is forgotten. Taking the oldest
            # entry out of a dict would walk over all those that were taken out before.
            if len(self._known) >= _MAX_KNOWN:
                self._known_before = self._known
                self._known = {}
            self._known[digest] = found
        return found


class Guard:
    """The guardrails of one request: remembers its placeholders and its verdicts."""

    __slots__ = ("_pipeline", "_tenant", "placeholders", "verdicts")

    def __init__(self, pipeline: Pipeline, tenant: bytes) -> None:
        self._pipeline = pipeline
        self._tenant = tenant
        self.placeholders = Placeholders()
        self.verdicts: dict[Direction, Verdict] = {}

    @property
    def cleans_responses(self) -> bool:
        """Whether answers have to be read at all."""
        return self._pipeline.cleans_responses or bool(self.placeholders)

    def incoming(
        self, parts: Sequence[Part], direction: Literal["request", "context"] = "request"
    ) -> list[str] | None:
        """Judge texts on their way to a model; the masked texts, or none when nothing changed.

        Raises:
            BlockedError: the policy does not let them pass.
            GuardrailError: no verdict could be reached.
        """
        policy = self._pipeline.policy
        if not policy.of(direction).active:
            return None
        verdict = self.verdicts.setdefault(direction, Verdict())
        found = self._pipeline.inspect(direction, parts, verdict, self._tenant)
        if verdict.action == "block":
            raise BlockedError(", ".join(sorted(verdict.findings)))
        if not any(found):
            return None
        if not self.placeholders:
            self.placeholders = Placeholders([part.text for part in parts])
        names = self.placeholders
        kinds = policy.of(direction).kinds
        restore = policy.restore and direction == "request"
        out: list[str] = []
        for part, spans in zip(parts, found, strict=True):
            text = part.text
            if spans:
                text = self._masked(text, spans, kinds, names, restore=restore)
            out.append(text)
        return out

    def outgoing(self, text: str) -> str:
        """Judge a whole text of an answer; masked, and with placeholders put back.

        Raises:
            BlockedError: the policy does not let it pass.
            GuardrailError: no verdict could be reached.
        """
        spans = self._find(text)
        return self._clean(text, spans) if spans else text

    def stream(self) -> StreamMasker:
        """The same for a text that arrives in pieces."""
        return StreamMasker(self._find, self._clean)

    def _find(self, text: str) -> list[Span]:
        verdict = self.verdicts.get("response")
        if verdict is None:
            verdict = self.verdicts["response"] = Verdict()
        spans = self._pipeline.inspect_answer(text, verdict)
        if verdict.action == "block":
            raise BlockedError(", ".join(sorted(verdict.findings)))
        if "[" in text and self.placeholders:
            return disjoint([*spans, *self.placeholders.find(text)])
        return spans

    def _clean(self, text: str, spans: list[Span]) -> str:
        if not spans:
            return text
        kinds = self._pipeline.policy.response.kinds
        return self._masked(text, spans, kinds, self.placeholders, restore=False)

    def _masked(
        self,
        text: str,
        spans: list[Span],
        kinds: dict[str, Action],
        names: Placeholders,
        *,
        restore: bool,
    ) -> str:
        """``text`` with its spans masked, or put back where they are placeholders."""
        out: list[str] = []
        position = 0
        for start, end, kind in spans:
            value = text[start:end]
            if kind == PLACEHOLDER:
                value = names.value(value)
            elif kinds[kind] == "mask":
                value = names.name(kind, value, restorable=restore)
            if start > position:
                out.append(text[position:start])
            out.append(value)
            position = end
        out.append(text[position:])
        return "".join(out)


__all__ = ["Guard", "Part", "Pipeline", "Verdict"]
