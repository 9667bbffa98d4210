"""Time-ordered identifiers (RFC 9562, version 7)."""

from __future__ import annotations

import os
import time
from typing import Final

_BYTES: Final = 10
_STOCK: Final = 400 * _BYTES


class _Moment:
    """The milliseconds as an identifier writes them; most identifiers share theirs with others."""

    __slots__ = ("_number", "_text")

    def __init__(self) -> None:
        self._number = -1
        self._text = ""

    def text(self) -> str:
        """Eight and four hexadecimal digits, and the mark of the version."""
        number = time.time_ns() // 1_000_000 & (1 << 48) - 1
        if number != self._number:
            digits = f"{number:012x}"
            self._number, self._text = number, f"{digits[:8]}-{digits[8:]}-7"
        return self._text


class _Noise:
    """Random digits in stock: asking the kernel for a few costs as much as asking for many."""

    __slots__ = ("_digits", "_used")

    def __init__(self) -> None:
        self._digits = ""
        self._used = 0

    def forget(self) -> None:
        """What is in stock belongs to another process."""
        self._digits = ""

    def take(self) -> str:
        """Twenty hexadecimal digits that nobody gets again."""
        start = self._used
        end = start + 2 * _BYTES
        if end > len(self._digits):
            self._digits = os.urandom(_STOCK).hex()
            start, end = 0, 2 * _BYTES
        self._used = end
        return self._digits[start:end]


_MOMENT: Final = _Moment()
_NOISE: Final = _Noise()
# A digit of which two bits are random, the other two say which layout this is.
_VARIANTS: Final = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}
os.register_at_fork(after_in_child=_NOISE.forget)


def uuid7() -> str:
    """Milliseconds since 1970 in the first 48 bits, 74 random bits behind them."""
    noise = _NOISE.take()
    variant = _VARIANTS[noise[3]]
    return f"{_MOMENT.text()}{noise[:3]}-{variant}{noise[4:7]}-{noise[7:19]}"
