"""Personal data whose value can be checked: from a place in a text to a span, or to nothing.

A recogniser is an anchor (a short pattern that every value contains) and a function that looks at
the text around it. Functions get the index behind the anchor and look only as far as the longest
possible value.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from tresor_gateway.guardrails import checks
from tresor_gateway.guardrails.engine import Pattern
from tresor_gateway.guardrails.findings import Span

Look = Callable[[str, int], Span | None]

EMAIL: Final = "email"
IBAN: Final = "iban"
CARD: Final = "card"
PHONE: Final = "phone"
IP: Final = "ip"

MAX_LOCAL: Final = 64
MAX_DOMAIN: Final = 253
_DOMAIN_CHARACTERS: Final = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-"
_LOCAL_CHARACTERS: Final = _DOMAIN_CHARACTERS + "_%+&'"
_LOCAL: Final = frozenset(_LOCAL_CHARACTERS)
_DOMAIN: Final = frozenset(_DOMAIN_CHARACTERS)
_HEX: Final = frozenset("0123456789abcdefABCDEF:.")
DIGITS: Final = frozenset("0123456789")


class Recogniser(NamedTuple):
    """Where to look, and what decides."""

    kind: str
    anchor: Pattern
    look: Look


# --- e-mail ---------------------------------------------------------------------------------


def email(text: str, end: int) -> Span | None:
    """``end`` is behind the first character after the at sign."""
    at = end - 2
    floor = max(0, at - MAX_LOCAL)
    # What usually stands there, in one step; the loop is for the rest.
    start = floor + len(text[floor:at].rstrip(_LOCAL_CHARACTERS))
    while start > floor and (
        (char := text[start - 1]) in _LOCAL or (char > "\x7f" and _word(char))
    ):
        start -= 1
    while start < at and text[start] in ".'&":
        start += 1
    stop = at + 1
    ceiling = min(len(text), stop + MAX_DOMAIN)
    stop = ceiling - len(text[stop:ceiling].lstrip(_DOMAIN_CHARACTERS))
    while stop < ceiling and ((char := text[stop]) in _DOMAIN or (char > "\x7f" and _word(char))):
        stop += 1
    while stop > at + 1 and text[stop - 1] in ".-":
        stop -= 1
    labels = text[at + 1 : stop].split(".")
    if start == at or len(labels) < 2 or not all(labels):
        return None
    # A sentence may go on behind the domain without a space; the last label that can be a
    # top-level domain ends the address.
    while len(labels) > 2 and not _top_level(labels[-1].rstrip("0123456789")):
        stop -= len(labels.pop()) + 1
    # The number of a footnote may stick to it.
    last = labels[-1].rstrip("0123456789")
    stop -= len(labels[-1]) - len(last)
    return Span(start, stop, EMAIL) if _top_level(last) else None


def _word(char: str) -> bool:
    return char.isalnum()


def _top_level(label: str) -> bool:
    return len(label) >= 2 and (label.isalpha() or label[:4].lower() == "xn--")


# --- IBAN -----------------------------------------------------------------------------------


def iban(text: str, end: int) -> Span | None:
    """``end`` is behind country, check digits, an optional separator and four more."""
    for start in (end - 8, end - 9):
        if start < 0 or not text[start : start + 2].isalpha():
            continue
        if not text[start + 2 : start + 4].isdigit():
            continue
        length = checks.IBAN_LENGTHS.get(text[start : start + 2].upper())
        if length is None:
            continue
        # Four more characters than groups of four need separators.
        window = text[start : start + length + length // 3]
        value = window.replace(" ", "").replace("-", "")[:length].upper()
        if not value.isascii() or not value.isalnum() or not checks.iban(value):
            continue
        stop = _end_of_groups(text, start, length)
        if stop:
            return Span(start, stop, IBAN)
    return None


def _end_of_groups(text: str, start: int, length: int) -> int:
    """Behind ``length`` letters and digits with single separators among them; 0 without."""
    gap = False
    for position in range(start, len(text)):
        if text[position] not in " -":
            gap = False
            length -= 1
            if length == 0:
                return position + 1
        elif gap:
            return 0
        else:
            gap = True
    return 0


# --- IP addresses ----------------------------------------------------------------------------


def ipv4(text: str, end: int) -> Span | None:
    """``end`` is behind the first digit of the fourth number."""
    stop = end
    while stop < len(text) and stop < end + 3 and text[stop] in DIGITS:
        stop += 1
    start = end - 1
    floor = max(0, end - 14)
    while start > floor and text[start - 1] in "0123456789.":
        start -= 1
    before = text[start - 1 : start]
    if before.isalnum() or (text[stop : stop + 1] == "." and text[stop + 1 : stop + 2].isdigit()):
        return None
    if text[stop : stop + 1].isalnum() or not checks.ipv4(text[start:stop]):
        return None
    return Span(start, stop, IP)


def ipv6(text: str, end: int) -> Span | None:
    """``end`` is inside an address, behind two colons."""
    start = stop = end - 1
    while start > max(0, end - 46) and text[start - 1] in _HEX:
        start -= 1
    while stop < min(len(text), end + 46) and text[stop] in _HEX:
        stop += 1
    while stop > start and text[stop - 1] == ".":
        stop -= 1
    if text[start - 1 : start].isalnum() or text[stop : stop + 1].isalnum():
        return None
    value = text[start:stop]
    if value.endswith(":") and not value.endswith("::"):
        stop -= 1
        value = value[:-1]
    return Span(start, stop, IP) if checks.ipv6(value) else None


RECOGNISERS: Final = (
    # The byte class leaves out what can stand before an at sign but not in an address.
    Recogniser(EMAIL, Pattern(rb"[^\s\"<>(),:;]@[A-Za-z0-9\x80-\xff]"), email),
    Recogniser(
        IBAN,
        Pattern(rb"(?:^|[^A-Za-z0-9])[A-Za-z]{2}[0-9]{2}[ -]?[A-Za-z0-9]{4}"),
        iban,
    ),
    Recogniser(IP, Pattern(rb"[0-9]\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]"), ipv4),
    Recogniser(IP, Pattern(rb"(?:[0-9A-Fa-f]:[0-9A-Fa-f]{0,4}:|::)[0-9A-Fa-f]"), ipv6),
)
