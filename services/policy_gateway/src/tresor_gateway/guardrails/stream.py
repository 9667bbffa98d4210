"""Clean a text that arrives in pieces, and hold back no more than could be part of a finding.

Only whole words leave, and a word that may belong to a longer group (numbers, IBAN) waits for the
next one. So it does not matter where the pieces were cut.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from tresor_gateway.guardrails.findings import Span
from tresor_gateway.guardrails.secrets import TOKEN

# A longer word is let go except for its end; longer than any value without a space that can be
# recognised by less than its whole length.
MAX_HELD: Final = 640
_KEPT: Final = 320
# How far groups of digits may reach back (IBAN: 34 characters and their separators).
_GROUP_REACH: Final = 64
_KEY_LINE: Final = "-----BEGIN"
_KEY_LINE_LENGTH: Final = 80
_PHONE: Final = "0123456789()+-./"
_IBAN_GROUP: Final = 4
# A secret that outgrows the buffer ends where its alphabet does.
_SECRET: Final = TOKEN | frozenset("+/=.~")
_WIDE: Final = "\u2e80"
_FULLWIDTH: Final = range(0xFF00, 0xFFF0)

Find = Callable[[str], list[Span]]
Clean = Callable[[str, list[Span]], str]


class StreamMasker:
    """One text of one answer. ``find`` looks for spans, ``clean`` makes of them what may pass."""

    __slots__ = ("_clean", "_find", "_held", "_key", "_swallow")

    def __init__(self, find: Find, clean: Clean) -> None:
        self._find = find
        self._clean = clean
        self._held = ""
        self._swallow = False
        self._key = False

    @property
    def held(self) -> int:
        """Characters that wait."""
        return len(self._held)

    def feed(self, piece: str) -> str:
        """The next piece; returns what may leave now."""
        text = self._held + piece if self._held else piece
        if self._swallow or self._key:
            text = self._skip(text)
            if self._swallow or self._key:
                self._held = text
                return ""
        cut = max(text.rfind(" "), text.rfind("\n"), text.rfind('"'))
        if cut > 0:
            before = text[cut - 1]
            # Letters end a plain word; anything else, or several words, needs a closer look.
            if not before.isalpha() or text.find(" ", 1) != cut:
                cut = _group_start(text, cut)
            if "-----B" in text:
                cut = _key_start(text, cut)
        elif text and not text.isascii():
            cut = _wide_break(text)
        if cut <= 0:
            self._held = text
            return self._overflow() if len(text) > MAX_HELD else ""
        self._held = text[cut:]
        out = text[:cut]
        # A word of letters is shorter than any key and holds no sign of anything else.
        if cut <= 16 and out[1:].isalpha():
            return out
        return self._release(out)

    def finish(self) -> str:
        """Nothing more comes; returns the rest."""
        text, self._held = self._held, ""
        if self._swallow or self._key:
            text = self._skip(text)
            if self._key:
                return ""
        return self._release(text) if text else ""

    def _release(self, text: str) -> str:
        spans = self._find(text)
        if not spans:
            return text
        last = spans[-1]
        if last.end == len(text) and text.rfind("-----BEGIN", last.start) == last.start:
            # The lines of the key, and the one that ends it, are still to come.
            self._key = True
            end = text.find("-----END", last.start)
            if end >= 0:
                self._held = text[end:] + self._held
        return self._clean(text, spans)

    def _overflow(self) -> str:
        """Let the first part of a very long word go."""
        text = self._held
        spans = self._find(text)
        cut = len(text) - _KEPT
        for span in spans:
            if span.end == len(text) and span.start <= cut:
                self._held = ""
                self._swallow = True
                return self._clean(text, spans)
            if span.start < cut < span.end:
                cut = span.end
            elif span.start >= cut:
                break
        self._held = text[cut:]
        return self._clean(text[:cut], [span for span in spans if span.end <= cut])

    def _skip(self, text: str) -> str:
        """Drop what still belongs to a secret whose beginning was masked."""
        if self._key:
            end = text.find("-----END")
            end = text.find("-----", end + 8) if end >= 0 else -1
            if end < 0:
                return text[-_KEY_LINE_LENGTH:]
            self._key = False
            return text[end + 5 :]
        position = 0
        while position < len(text) and text[position] in _SECRET:
            position += 1
        self._swallow = position == len(text)
        return text[position:]


def _group_start(text: str, cut: int) -> int:
    """Move ``cut`` before the words that may be the first groups of something longer."""
    hold = position = cut
    while position > 0 and cut - position <= _GROUP_REACH:
        start = _word_start(text, position)
        word = text[start:position]
        if not word:
            pass
        elif not word.strip(_PHONE) or not (word.isascii() or any(map(_is_letter, word))):
            # Also digits of other scripts, and digits with invisible characters among them.
            hold = start - 1
        elif word[-1].isdecimal() or not word[-1].isascii():
            hold = start - 1
            if len(word) != _IBAN_GROUP:
                break
        elif len(word) != _IBAN_GROUP or not word.isalnum():
            break
        position = start - 1
    return hold


def _word_start(text: str, end: int) -> int:
    return max(text.rfind(" ", 0, end), text.rfind("\n", 0, end), text.rfind('"', 0, end)) + 1


def _is_letter(char: str) -> bool:
    return char.isascii() and char.isalpha()


def _key_start(text: str, cut: int) -> int:
    """Move ``cut`` before a line that may become the first line of a private key."""
    start = text.rfind(_KEY_LINE, 0, cut)
    if start < 0 or cut - start > _KEY_LINE_LENGTH or "-----" in text[start + len(_KEY_LINE) : cut]:
        return cut
    return start


def _wide_break(text: str) -> int:
    """Behind the last character of a script without spaces; no finding goes across it."""
    for position in range(len(text) - 1, -1, -1):
        char = text[position]
        if char >= _WIDE and char.isalnum() and ord(char) not in _FULLWIDTH and char < "\U0001d400":
            return position + 1
    return 0
