"""What inspecting a text yields."""

from __future__ import annotations

from typing import NamedTuple


class Span(NamedTuple):
    """Characters ``start`` to ``end`` (exclusive) of a text are a ``kind`` of thing."""

    start: int
    end: int
    kind: str


class Findings:
    """Spans in order and free of overlaps, and the names of the rules that fired."""

    __slots__ = ("rules", "spans")

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.rules: set[str] = set()


def disjoint(spans: list[Span]) -> list[Span]:
    """In order, with overlaps joined under the kind of the longer one."""
    if len(spans) < 2:
        return spans
    spans.sort(key=lambda span: (span.start, -span.end))
    joined = [spans[0]]
    for span in spans[1:]:
        last = joined[-1]
        if span.start >= last.end:
            joined.append(span)
        elif span.end > last.end:
            longer = span if span.end - span.start > last.end - last.start else last
            joined[-1] = Span(last.start, span.end, longer.kind)
    return joined
