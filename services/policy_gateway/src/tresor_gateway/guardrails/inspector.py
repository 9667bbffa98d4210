"""Find everything in one text: one scan, then a look at the few places it points to."""

from __future__ import annotations

import time
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from typing import Final

from tresor_gateway.guardrails import decode, fold, numbers, secrets
from tresor_gateway.guardrails.engine import Matcher, Pattern
from tresor_gateway.guardrails.errors import GuardrailTimeoutError, TooManyCandidatesError
from tresor_gateway.guardrails.findings import Findings, Span, disjoint
from tresor_gateway.guardrails.recognise import IBAN, RECOGNISERS, Look
from tresor_gateway.guardrails.screening import Screen

# The continuation bytes of UTF-8: all others begin a character.
_CONTINUATION: Final = bytes(range(0x80, 0xC0))
_CHECK_EVERY: Final = 256
# The patterns that come first in the database.
_FOLD: Final = 0
_NUMBER: Final = 1
_LEET: Final = 2
_ROT13: Final = 3
_NONE: Final[frozenset[int]] = frozenset()
Clock = Callable[[], float]


class Inspector:
    """Finds values of the given kinds, and signs of injection where it is asked to."""

    def __init__(self, kinds: frozenset[str], *, clock: Clock = time.thread_time) -> None:
        self._clock = clock
        self._kinds = kinds
        # What tells the findings of this inspector from those of another one (16 bytes at most).
        self.scope = b"%d.0" % (id(self) & 0xFFFF_FFFF)
        self.screened_scope = b"%d.1" % (id(self) & 0xFFFF_FFFF)
        self._folder = fold.Folder()
        self._looks: dict[int, Look] = {}
        self._decoders: dict[int, decode.Decoder] = {}
        patterns: list[Pattern] = [fold.NEEDED, numbers.ANCHOR, decode.LEET, decode.ROT13]
        for gate in decode.GATES:
            self._decoders[len(patterns)] = gate.decoder
            patterns.append(gate.pattern)
        for recogniser in (*RECOGNISERS, *secrets.recognisers()):
            if recogniser.kind in kinds:
                self._looks[len(patterns)] = recogniser.look
                patterns.append(recogniser.anchor)
        self._matcher = Matcher(patterns)

    def inspect(
        self, text: str, deadline: float | None = None, screen: Screen | None = None
    ) -> Findings:
        """Everything in ``text``, with a ``screen`` also what its rules say.

        ``deadline`` is a time of the clock (CPU time, unless told so); without one the length of
        the text is the only limit.

        Raises:
            GuardrailError: no verdict (time is up, too many candidates, engine failure).
        """
        findings = Findings()
        search = _Search(findings, deadline, screen)
        self._look(text, search, decode.MAX_DEPTH, None)
        if len(findings.spans) > 1:
            findings.spans = disjoint(findings.spans)
        return findings

    def _look(self, text: str, search: _Search, depth: int, place: tuple[int, int] | None) -> None:
        """Search one text; ``place`` is where it stands when it was decoded from another."""
        data = text.encode("utf-8", "replace")
        hits = self._matcher.scan(data)
        if search.deadline is not None:
            self._check_time(search)
        if not hits:
            if search.screen is not None:
                self._screen_text(data, _NONE, search)
            return
        spans, seen = self._candidates(text, data, hits, search)
        if place is None and not seen:
            search.findings.spans += spans
            if search.screen is not None:
                self._screen_text(data, seen, search)
            return
        if _FOLD in seen:
            folded = self._folder.fold(text)
            plain = folded.text.encode("utf-8", "replace")
            found, more = self._candidates(folded.text, plain, self._matcher.scan(plain), search)
            spans += [Span(*folded.original(s.start, s.end), s.kind) for s in found]
            seen |= more
            self._screen_text(plain, seen, search)
        search.findings.spans += spans if place is None else [Span(*place, s.kind) for s in spans]
        self._screen_text(data, seen, search)
        if depth > 0:
            for number in seen & self._decoders.keys():
                for piece in self._decoders[number](text):
                    search.spend(piece)
                    self._check_time(search)
                    self._look(piece.text, search, depth - 1, place or (piece.start, piece.end))

    def _candidates(
        self, text: str, data: bytes, hits: list[tuple[int, int]], search: _Search
    ) -> tuple[list[Span], set[int]]:
        """Spans among the hits, and the numbers of the gates that are open."""
        spans: list[Span] = []
        seen: set[int] = set()
        ascii_only = len(data) == len(text)
        offset = position = covered = 0
        looks, kinds = self._looks, self._kinds
        unchecked = _CHECK_EVERY
        for number, end in hits:
            look = looks.get(number)
            if look is None and number != _NUMBER:
                seen.add(number)
                continue
            unchecked -= 1
            if unchecked == 0:
                unchecked = _CHECK_EVERY
                self._check_time(search)
            if ascii_only:
                position = end
            elif end > offset:
                position += len(data[offset:end].translate(None, _CONTINUATION))
                offset = end
            if look is not None:
                span = look(text, position)
                if span is not None:
                    spans.append(span)
                    if span.kind == IBAN:
                        covered = max(covered, span.end)
            elif position > covered:
                found, covered = numbers.numbers(text, position)
                spans += [span for span in found if span.kind in kinds]
        return spans, seen

    def _screen_text(self, data: bytes, seen: AbstractSet[int], search: _Search) -> None:
        screen = search.screen
        if screen is None:
            return
        rules = search.findings.rules
        screen.rules(data, rules)
        if _ROT13 in seen or _LEET in seen:
            for view in decode.disguises(data, rot13=_ROT13 in seen, leet=_LEET in seen):
                screen.rules(view, rules)
        self._check_time(search)

    def _check_time(self, search: _Search) -> None:
        if search.deadline is not None and self._clock() > search.deadline:
            raise GuardrailTimeoutError("no time left to judge the text")


class _Search:
    """What one inspection has found and may still spend."""

    __slots__ = ("_characters", "_pieces", "deadline", "findings", "screen")

    def __init__(self, findings: Findings, deadline: float | None, screen: Screen | None) -> None:
        self.findings = findings
        self.deadline = deadline
        self.screen = screen
        self._characters = decode.MAX_CHARACTERS
        self._pieces = decode.MAX_PIECES

    def spend(self, piece: decode.Piece) -> None:
        """Another decoded text is to be read.

        Raises:
            TooManyCandidatesError: it is beyond the bounds; nobody says that it is harmless.
        """
        self._characters -= len(piece.text)
        self._pieces -= 1
        if self._pieces < 0 or self._characters < 0:
            raise TooManyCandidatesError("more encoded texts than can be read")
