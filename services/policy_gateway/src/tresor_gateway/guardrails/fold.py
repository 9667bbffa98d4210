"""One spelling for what looks the same, with a way back to the original characters.

Compatibility forms (NFKC), accents, zero-width and control characters, Unicode tags, letters of
other scripts that look like Latin ones, and the many dashes and spaces become plain ASCII where
there is one.
"""

from __future__ import annotations

import unicodedata
from bisect import bisect_right
from itertools import accumulate
from typing import Final

from tresor_gateway.guardrails.engine import Pattern

# Look-alikes that compatibility decomposition leaves alone (Unicode TR 39, the common ones).
_LOOKALIKES: Final = dict(
    pair.split("=")
    for pair in (  # noqa: SIM905 - a table of a hundred pairs stays readable like this
        # Cyrillic
        "а=a б=b в=b г=r д=d е=e ё=e ѓ=r ж=x и=u й=u і=i ї=i ј=j к=k ќ=k л=n м=m н=h о=o п=n"
        " р=p с=c т=t у=y ф=o х=x ѕ=s һ=h ԁ=d ԛ=q ԝ=w ѵ=v ь=b є=e ӏ=l ҽ=e ո=n ս=u օ=o հ=h ց=g"
        " А=A В=B Г=r Е=E Ё=E І=I Ї=I Ј=J К=K М=M Н=H О=O П=n Р=P С=C Т=T У=Y Х=X Ѕ=S Ԁ=d Ԍ=G"
        " Ԛ=Q Ԝ=W Ѵ=V Ь=b Є=E Ӏ=I"
        # Greek
        " α=a β=b γ=y δ=d ε=e η=n ι=i κ=k μ=u ν=v ο=o ρ=p σ=o τ=t υ=u χ=x ω=w ϲ=c ϳ=j"
        " Α=A Β=B Ε=E Ζ=Z Η=H Ι=I Κ=K Μ=M Ν=N Ο=O Ρ=P Τ=T Υ=Y Χ=X"
        # Latin letters without decomposition
        " ɑ=a ɡ=g ɩ=i ɪ=i ʏ=y ı=i ł=l Ł=L đ=d Đ=D ħ=h ø=o Ø=O æ=ae Æ=AE œ=oe Œ=OE ɢ=g ɴ=n ʀ=r ʜ=h"
        " ᴀ=a ᴄ=c ᴅ=d ᴇ=e ᴊ=j ᴋ=k ᴍ=m ᴏ=o ᴘ=p ᴛ=t ᴜ=u ᴠ=v ᴡ=w ᴢ=z ꜱ=s ʙ=b ʟ=l ƚ=l ꮯ=c"
    ).split()
)
_MARKS: Final = dict.fromkeys("‐‑‒–—―−﹘﹣－", "-") | {
    "„": '"',
    "“": '"',
    "”": '"',
    "‘": "'",
    "’": "'",
    "‚": "'",
    "´": "'",
    "ß": "ss",
}
_TAGS: Final = range(0xE0020, 0xE007F)
_DROPPED: Final = frozenset({"Mn", "Me", "Cf", "Cc", "Co", "Cs"})
_KEPT: Final = frozenset("\t\n\r")
_MAX_CACHED: Final = 1 << 16

# Only texts with one of these need folding: German letters and typographic marks alone do not.
NEEDED: Final = Pattern(
    rb"\xC2\xAD|\xC2[\xAA\xB2\xB3\xB9\xBA]|[\x00-\x08\x0E-\x1F\x7F]"
    # Letters with accents other than the German ones.
    rb"|\xC3[\x80-\x83\x85-\x95\x98-\x9B\x9D\x9E\xA0-\xA3\xA5-\xB5\xB8-\xBB\xBD-\xBF]"
    # Latin extensions, phonetic letters, combining marks, Greek, Cyrillic, Armenian.
    rb"|[\xC4-\xD6][\x80-\xBF]"
    rb"|\xE1[\x80-\xBF]{2}"
    # Zero-width and direction marks, superscripts, letter-like and enclosed characters.
    rb"|\xE2\x80[\x8B-\x8F\xA8-\xAE]|\xE2\x81[\xA0-\xBF]|\xE2\x82[\x80-\x9C]"
    rb"|\xE2\x84[\x80-\xBF]|\xE2[\x91-\x93][\x80-\xBF]"
    # Fullwidth forms, byte order mark, variation selectors between letters.
    rb"|\xEF[\xBC-\xBD][\x80-\xBF]|\xEF\xBB\xBF|[A-Za-z0-9]\xEF\xB8[\x80-\x8F]"
    # Mathematical and enclosed letters, tags.
    rb"|\xF0\x9D[\x90-\x9F][\x80-\xBF]|\xF0\x9F[\x84-\x86][\x80-\xBF]|\xF3\xA0[\x80-\x87]"
    # Spaces and dashes that are not ASCII, inside of numbers and between words.
    rb"|[0-9A-Za-z](?:\xC2\xA0|\xE2\x80[\x80-\x8A\x90-\x95\xAF]|\xE2\x88\x92|\xE3\x80\x80)[0-9A-Za-z(+]",
    once=True,
)


class Folded:
    """A folded text that knows where its characters come from."""

    __slots__ = ("_ends", "text")

    def __init__(self, text: str, ends: list[int]) -> None:
        self.text = text
        self._ends = ends

    def original(self, start: int, end: int) -> tuple[int, int]:
        """The original characters that ``text[start:end]`` was made of."""
        first = bisect_right(self._ends, start)
        last = bisect_right(self._ends, end - 1)
        return first, last + 1


class Folder:
    """Folds texts; remembers characters it has seen."""

    def __init__(self) -> None:
        self._cache: dict[str, str] = {}

    def fold(self, text: str) -> Folded:
        """Fold every character on its own, so that each one can be traced back."""
        cache = self._cache
        try:
            parts = [cache[char] for char in text]
        except KeyError:
            if len(cache) > _MAX_CACHED:
                cache.clear()
            cache.update((char, _fold_character(char)) for char in set(text).difference(cache))
            parts = [cache[char] for char in text]
        return Folded("".join(parts), list(accumulate(map(len, parts))))


def _fold_character(char: str) -> str:
    if char in _KEPT or " " <= char <= "~":
        return char
    known = _MARKS.get(char) or _LOOKALIKES.get(char)
    if known is not None:
        return known
    if ord(char) in _TAGS:
        return chr(ord(char) - 0xE0000)
    category = unicodedata.category(char)
    if category in _DROPPED:
        return ""
    if category.startswith("Z"):
        return " "
    return _decompose(char)


def _decompose(char: str) -> str:
    plain = unicodedata.normalize("NFKD", char)
    if plain == char:
        return char
    return "".join(_LOOKALIKES.get(c, c) for c in plain if unicodedata.category(c) != "Mn")
