"""How long an engine had work: the union of the times of its requests."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

Span = tuple[int, int]
_LOOSE: Final = 200_000


def union(spans: Iterable[Span]) -> list[Span]:
    """Return the spans (begin, end; any unit) in order, those that overlap or touch as one."""
    merged: list[Span] = []
    for begin, end in sorted(spans):
        if merged and begin <= merged[-1][1]:
            if end > merged[-1][1]:
                merged[-1] = (merged[-1][0], end)
        elif end > begin:
            merged.append((begin, end))
    return merged


def length(spans: Iterable[Span]) -> int:
    """Return how long spans without overlap are together."""
    return sum(end - begin for begin, end in spans)


class Busy:
    """Takes spans in; memory grows with the pauses between requests, not with the requests."""

    def __init__(self) -> None:
        """Begin without a span."""
        self._spans: list[Span] = []
        self._limit = _LOOSE

    def add(self, begin: int, end: int) -> None:
        """Take one span in."""
        self._spans.append((begin, end))
        if len(self._spans) >= self._limit:
            self._spans = union(self._spans)
            self._limit = len(self._spans) + _LOOSE

    def spans(self) -> list[Span]:
        """Return what was taken in, merged."""
        self._spans = union(self._spans)
        return self._spans
