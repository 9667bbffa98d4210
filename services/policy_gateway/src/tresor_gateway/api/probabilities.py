"""Token probabilities beside a text that is masked: they must not tell what the text hides."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from tresor_gateway.guardrails.stream import StreamMasker

Entry = TypeVar("Entry")


class Aligner(Generic[Entry]):
    """Lets the entries of unchanged stretches of a text pass, in order, and drops the others.

    An entry whose token is not what stands in the text at its place ends the matter: without
    alignment nothing passes any more.
    """

    __slots__ = ("_base", "_changed", "_done", "_lost", "_raw", "_token", "_waiting")

    def __init__(self, token: Callable[[Entry], str]) -> None:
        self._token = token
        # The original text from the next entry on, which begins at ``_base``.
        self._raw = ""
        self._base = 0
        self._done = 0
        self._changed: list[tuple[int, int]] = []
        self._waiting: list[Entry] = []
        self._lost = False

    def through(
        self, stream: StreamMasker, text: str, entries: Sequence[Entry], *, last: bool = False
    ) -> tuple[str, list[Entry]]:
        """Send a piece of text through its masker; what leaves, and the entries that may."""
        tokens = [self._token(entry) for entry in entries]
        if "".join(tokens) == text:
            steps = [(token, [entry]) for token, entry in zip(tokens, entries, strict=True)]
        else:
            steps = [(text, list(entries))]
        out = ""
        passed: list[Entry] = []
        for piece, own in steps:
            self.feed(piece, own)
            part = stream.feed(piece)
            passed += self.release(part, stream.held)
            out += part
        if last:
            rest = stream.finish()
            passed += self.release(rest, 0)
            out += rest
        return out, passed

    def feed(self, text: str, entries: Sequence[Entry]) -> None:
        """A piece of the original text, and the entries of its tokens."""
        self._raw += text
        self._waiting += entries

    def release(self, out: str, held: int) -> list[Entry]:
        """The entries for what left as ``out`` while ``held`` characters still wait."""
        done = self._base + len(self._raw) - held
        if self._raw[self._done - self._base : done - self._base] != out:
            self._changed.append((self._done, done))
        self._done = done
        passed: list[Entry] = []
        while self._waiting and not self._lost:
            token = self._token(self._waiting[0])
            end = self._base + len(token)
            if end > done:
                break
            if not self._raw.startswith(token):
                self._lost = True
                break
            entry = self._waiting.pop(0)
            if not any(low < end and high > self._base for low, high in self._changed):
                passed.append(entry)
            self._raw = self._raw[len(token) :]
            self._base = end
        self._changed = [stretch for stretch in self._changed if stretch[1] > self._base]
        return passed
