"""Placeholders instead of values: the same value gets the same one within a request."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from tresor_gateway.guardrails.findings import Span

PLACEHOLDER: Final = "placeholder"
MAX_LENGTH: Final = 20


class Placeholders:
    """Names for the values of one request, and the way back for the ones who sent them."""

    __slots__ = ("_counts", "_names", "_taken", "_values")

    def __init__(self, texts: Sequence[str] = ()) -> None:
        """``texts`` are those of the request: what looks like a placeholder there is no name."""
        self._names: dict[tuple[str, str], str] = {}
        self._values: dict[str, str] = {}
        self._counts: dict[str, int] = {}
        self._taken = {name for text in texts if "[" in text for name in _bracketed(text)}

    def __bool__(self) -> bool:
        """Whether there is anything to put back."""
        return bool(self._values)

    def name(self, kind: str, value: str, *, restorable: bool) -> str:
        """The placeholder of a value."""
        # Written with spaces or without, it is the same account.
        key = (kind, "".join(value.split()).lower())
        known = self._names.get(key)
        if known is not None:
            return known
        while True:
            count = self._counts[kind] = self._counts.get(kind, 0) + 1
            name = f"[{kind.upper()}_{count}]"
            if name not in self._taken:
                break
        self._names[key] = name
        # A quote or a line break would change the meaning of a tool call's arguments.
        if restorable and value.isprintable() and '"' not in value and "\\" not in value:
            self._values[name] = value
        return name

    def find(self, text: str) -> list[Span]:
        """Those of our placeholders in ``text`` that can be put back."""
        spans: list[Span] = []
        for start, end in _brackets(text):
            if text[start:end] in self._values:
                spans.append(Span(start, end, PLACEHOLDER))
        return spans

    def value(self, name: str) -> str:
        """What stands behind a placeholder."""
        return self._values[name]

    def conceal(self, text: str) -> str:
        """``text`` with every value that could have been put back as its placeholder again."""
        # The longest first: one value may be a part of another.
        for name, value in sorted(self._values.items(), key=lambda item: -len(item[1])):
            text = text.replace(value, name)
        return text


def _brackets(text: str) -> Iterator[tuple[int, int]]:
    """Where something stands in brackets that is as short as a placeholder."""
    start = text.find("[")
    while start >= 0:
        end = text.find("]", start + 1, start + MAX_LENGTH) + 1
        # Of "[[NAME]" the second bracket begins the name.
        again = text.find("[", start + 1, end or start + 1)
        if again < 0 and end > 0:
            yield start, end
        start = again if again >= 0 else text.find("[", max(end, start + 1))


def _bracketed(text: str) -> Iterator[str]:
    return (text[start:end] for start, end in _brackets(text))
