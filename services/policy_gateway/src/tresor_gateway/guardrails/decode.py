"""Texts hidden in a text: base64, hex, percent and the like, undone within fixed bounds.

Every decoder is asked only after its gate (a pattern of the main scan) has fired.
"""

from __future__ import annotations

import base64
import binascii
import html
import string
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple
from urllib.parse import unquote

from tresor_gateway.guardrails.engine import Pattern

MAX_DEPTH: Final = 2
# Of one text; what is beyond is not read, so the text is refused.
MAX_PIECES: Final = 4096
MAX_CHARACTERS: Final = 4 << 20
_MIN_TOKEN: Final = 16
_PRINTABLE: Final = string.printable.encode() + bytes(range(0x80, 0x100))
_TOKEN_BYTES: Final = frozenset((string.ascii_letters + string.digits + "+/_-").encode())
_TO_TOKENS: Final = bytes(b if b in _TOKEN_BYTES else 32 for b in range(256))
_HEX: Final = frozenset(b"0123456789abcdefABCDEF")
_BASE32: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567")
_ROT13: Final = bytes.maketrans(
    (string.ascii_lowercase + string.ascii_uppercase).encode(),
    (
        string.ascii_lowercase[13:]
        + string.ascii_lowercase[:13]
        + string.ascii_uppercase[13:]
        + string.ascii_uppercase[:13]
    ).encode(),
)
_LEET: Final = bytes.maketrans(b"0134578@$!|", b"oieastbasil")
_LEET_L: Final = bytes.maketrans(b"0134578@$!|", b"oleastbasil")


class Piece(NamedTuple):
    """What characters ``start`` to ``end`` of the text say when they are decoded."""

    text: str
    start: int
    end: int


Decoder = Callable[[str], Iterator[Piece]]


class Gate(NamedTuple):
    """A pattern, and the decoder that is worth trying when it matches."""

    pattern: Pattern
    decoder: Decoder


def encoded_words(text: str) -> Iterator[Piece]:
    """base64 (both alphabets), base32 and hexadecimal words that decode to text."""
    data = text.encode()
    ascii_only = len(data) == len(text)
    position = 0
    tokens = [token for token in data.translate(_TO_TOKENS).split() if len(token) >= _MIN_TOKEN]
    for token in tokens:
        position = data.find(token, position)
        for plain in _decodings(token):
            start = position if ascii_only else len(data[:position].decode(errors="replace"))
            end = start + len(token)
            while end < len(text) and text[end] == "=":
                end += 1
            yield Piece(plain, start, end)
        position += len(token)


def _decodings(token: bytes) -> Iterator[str]:
    letters = frozenset(token)
    try:
        if letters <= _HEX:
            if len(token) % 2 == 0:
                yield from _readable(binascii.unhexlify(token))
            return
        if letters <= _BASE32:
            padded = token + b"=" * (-len(token) % 8)
            yield from _readable(base64.b32decode(padded))
        cut = token[: len(token) - (len(token) % 4 == 1)]
        padded = cut.translate(bytes.maketrans(b"-_", b"+/")) + b"=" * (-len(cut) % 4)
        yield from _readable(base64.b64decode(padded))
    except (binascii.Error, ValueError):
        return


def _readable(data: bytes) -> Iterator[str]:
    """The text, when nearly all of it is one.

    Names and identifiers decode too, to bytes at random: those are no UTF-8.
    """
    head = data[:64]
    plain = head.decode(errors="ignore").encode()
    if len(head) - len(plain) + len(plain.translate(None, _PRINTABLE)) > 0.1 * len(head):
        return
    text = data.decode(errors="ignore")
    if len(text) >= _MIN_TOKEN // 2:
        yield text


def percent(text: str) -> Iterator[Piece]:
    """Percent encoding in words that have it."""
    for start, word in _words(text):
        if word.count("%") >= 2:
            yield Piece(unquote(word), start, start + len(word))


def escapes(text: str) -> Iterator[Piece]:
    r"""``\u0061`` and ``\x61`` in words that have it."""
    for start, word in _words(text):
        if "\\u" in word or "\\x" in word:
            plain = _unescape(word)
            if plain != word:
                yield Piece(plain, start, start + len(word))


def _unescape(word: str) -> str:
    out: list[str] = []
    position = 0
    while (mark := word.find("\\", position)) >= 0:
        out.append(word[position:mark])
        size = {"u": 4, "x": 2}.get(word[mark + 1 : mark + 2], 0)
        digits = word[mark + 2 : mark + 2 + size]
        if size and len(digits) == size and all(digit in string.hexdigits for digit in digits):
            out.append(chr(int(digits, 16)))
            position = mark + 2 + size
        else:
            out.append("\\")
            position = mark + 1
    out.append(word[position:])
    return "".join(out).encode("utf-8", "replace").decode()


def entities(text: str) -> Iterator[Piece]:
    """HTML's character references."""
    for start, word in _words(text):
        if "&" in word and (plain := html.unescape(word)) != word:
            yield Piece(plain, start, start + len(word))
    plain = html.unescape(text)
    if plain != text:
        yield Piece(plain, 0, 0)


def binary(text: str) -> Iterator[Piece]:
    """Bytes written as eight zeros and ones each."""
    words = [word for word in text.split() if len(word) == 8 and not word.strip("01")]
    yield from (Piece(plain, 0, 0) for plain in _readable(bytes(int(word, 2) for word in words)))


def spaced(text: str) -> Iterator[Piece]:
    """``i g n o r e`` and ``i.g.n.o.r.e``: letters apart, words further apart."""
    for separator in " .-_":
        pieces = text.split(separator)
        if sum(len(piece) == 1 for piece in pieces) < 8:
            continue
        # Nothing between two separators is a gap between words.
        joined = "".join(piece if len(piece) == 1 else f" {piece} " for piece in pieces)
        yield Piece(joined, 0, 0)
        yield Piece(joined.replace(" ", ""), 0, 0)


def _words(text: str) -> Iterator[tuple[int, str]]:
    position = 0
    for word in text.split():
        position = text.find(word, position)
        yield position, word
        position += len(word)


GATES: Final = (
    Gate(Pattern(rb"[A-Za-z0-9+/_\-]{20}", once=True), encoded_words),
    Gate(Pattern(rb"%[0-9A-Fa-f]{2}[^\s]{0,24}%[0-9A-Fa-f]{2}", once=True), percent),
    Gate(Pattern(rb"\\(?:u[0-9A-Fa-f]{4}|x[0-9A-Fa-f]{2})", once=True), escapes),
    Gate(Pattern(rb"&(?:#[xX]?[0-9A-Fa-f]{2,6}|[a-z]{2,8});", once=True), entities),
    Gate(Pattern(rb"[01]{8}(?:\s[01]{8}){4}", once=True), binary),
    Gate(Pattern(rb"(?:[A-Za-z][ .\-_]){7}", once=True), spaced),
)
# Letters written as digits; the same length, so the injection rules look at the bytes directly.
# An at sign alone is an address more often than an "a".
LEET: Final = Pattern(rb"[A-Za-z][0134578$!|]{1,2}[A-Za-z@]", once=True)


# Words that injections need, turned by rot13.
ROT13: Final = Pattern(
    rb"vtaber|qvfertneq|sbetrg|vafgehpgvba|cebzcg|flfgrz|najrvfhat|ertrya"
    rb"|iretvff|erirny|erfgevpg|cbyvpl|cerivbhf",
    once=True,
    caseless=True,
)


def disguises(data: bytes, *, rot13: bool, leet: bool) -> Iterator[bytes]:
    """The text as somebody reads it who knows rot13 or leet."""
    if rot13:
        yield data.translate(_ROT13)
    if leet:
        yield data.translate(_LEET)
        yield data.translate(_LEET_L)
