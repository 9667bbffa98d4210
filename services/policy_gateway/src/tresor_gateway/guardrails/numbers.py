"""Payment cards and phone numbers: groups of digits with separators between them."""

from __future__ import annotations

from typing import Final

from tresor_gateway.guardrails import checks
from tresor_gateway.guardrails.engine import Pattern
from tresor_gateway.guardrails.findings import Span
from tresor_gateway.guardrails.recognise import CARD, PHONE

_SEPARATORS: Final = " -./()"
_RUN: Final = "0123456789" + _SEPARATORS
_DIGITS: Final = frozenset("0123456789")
_STRIDE: Final = 64
# Seven digits, the shortest number of interest, counted from the beginning of a group: a number of
# so many digits ends in one place only.
ANCHOR: Final = Pattern(rb"(?:^|[^0-9])[0-9](?:[ \-./()]{0,3}[0-9]){6}")
_CARD_DIGITS: Final = (13, 19)
_CARD_LEADS: Final = frozenset("23456")
_AREA_DIGITS: Final = 3
_MAX_GROUPS: Final = 12
_PHONE_GAPS: Final = frozenset({" ", "-", "/", ".", " / ", " - ", ") ", ")", " (", "(", "-(", ")-"})

Group = tuple[int, int]


def numbers(text: str, end: int) -> tuple[list[Span], int]:
    """The cards and phone numbers of the run of groups around ``end``, and where the run ends."""
    groups = _groups(text, end)
    spans: list[Span] = []
    behind = 0
    left = sum([stop - start for start, stop in groups])
    for index, (start, stop) in enumerate(groups):
        if start >= behind:
            span = None
            if left >= _CARD_DIGITS[0] and text[start] in _CARD_LEADS:
                span = _card(text, groups, index)
            if span is None:
                span = _phone(text, groups, index)
            if span is not None:
                spans.append(span)
                behind = span.end
        left -= stop - start
        if left < checks.MIN_PHONE_DIGITS:
            break
    return spans, groups[-1][1]


def _groups(text: str, end: int) -> list[Group]:
    """All groups of digits that hang together with the digit before ``end``."""
    low = end
    while low > 0:
        chunk = text[max(0, low - _STRIDE) : low]
        kept = len(chunk.rstrip(_RUN))
        low -= len(chunk) - kept
        if kept:
            break
    high = end
    while high < len(text):
        chunk = text[high : high + _STRIDE]
        kept = len(chunk.lstrip(_RUN))
        high += len(chunk) - kept
        if kept:
            break
    groups: list[Group] = []
    start = -1
    for position in range(low, high):
        if text[position] in _DIGITS:
            if start < 0:
                start = position
        elif start >= 0:
            groups.append((start, position))
            start = -1
    if start >= 0:
        groups.append((start, high))
    return groups


def _card(text: str, groups: list[Group], index: int) -> Span | None:
    """A card number that begins with this group, the longest one."""
    separator: str | None = None
    digits = ""
    found: Span | None = None
    behind = 0
    for start, stop in groups[index : index + _CARD_DIGITS[1]]:
        if digits:
            gap = text[behind:start]
            if gap not in (" ", "-", ".") or (separator is not None and gap != separator):
                break
            separator = gap
        behind = stop
        digits += text[start:stop]
        if len(digits) > _CARD_DIGITS[1]:
            break
        if len(digits) >= _CARD_DIGITS[0] and checks.card(digits):
            found = Span(groups[index][0], stop, CARD)
    return found


def _phone(text: str, groups: list[Group], index: int) -> Span | None:
    """A phone number that begins with this group, the longest one."""
    start, stop = groups[index]
    lead = text[start - 1 : start]
    if text[start] != "0" and lead != "+" and stop - start != _AREA_DIGITS:
        return None
    begin = start
    if lead == "(" and text[stop : stop + 1] == ")":
        begin -= 1
        lead = text[begin - 1 : begin] if begin > 0 else ""
    plus = lead == "+" and not text[begin - 2 : begin - 1].isalnum()
    if not plus and (lead.isalnum() or (lead in ("+", ".", "_", "#") and lead)):
        return None
    if not plus and text[start] != "0":
        return _north_american(text, groups, index, begin)
    parts: list[str] = []
    ends: list[int] = []
    total = behind = 0
    for low, high in groups[index : index + _MAX_GROUPS]:
        if parts and text[behind:low] not in _PHONE_GAPS:
            break
        behind = high
        total += high - low
        if total > checks.MAX_PHONE_DIGITS + 2:
            total -= high - low
            break
        parts.append(text[low:high])
        ends.append(high)
    # The longest one first.
    while total >= checks.MIN_PHONE_DIGITS:
        if _is_phone(parts, plus=plus):
            if not plus and _is_date(text, groups, index):
                return None
            return Span(begin - 1 if plus else begin, ends[-1], PHONE)
        total -= len(parts.pop())
        ends.pop()
    return None


def _north_american(text: str, groups: list[Group], index: int, begin: int) -> Span | None:
    own = groups[index : index + 3]
    if len(own) < 3 or any(text[own[i][1] : own[i + 1][0]] not in _PHONE_GAPS for i in range(2)):
        return None
    parts = [text[low:high] for low, high in own]
    return Span(begin, own[2][1], PHONE) if checks.north_american_phone(parts) else None


def _is_phone(parts: list[str], *, plus: bool) -> bool:
    if plus:
        # "+49 (0) 30 ..." keeps the 0 of the national form.
        rest = [part for part in parts[1:] if part != "0"]
        return checks.international_phone("".join([parts[0], *rest]))
    if parts[0].startswith("00"):
        return checks.international_phone("".join(parts)[2:]) and len("".join(parts)) >= 11
    return checks.national_phone(parts)


def _is_date(text: str, groups: list[Group], index: int) -> bool:
    """Whether the first three groups are day, month and year in some order."""
    if len(groups) - index < 3:
        return False
    sizes = [groups[i][1] - groups[i][0] for i in range(index, index + 3)]
    gaps = {text[groups[i][1] : groups[i + 1][0]] for i in range(index, index + 2)}
    return len(gaps) == 1 and gaps <= {".", "-", "/"} and sizes in ([2, 2, 4], [4, 2, 2], [2, 2, 2])
