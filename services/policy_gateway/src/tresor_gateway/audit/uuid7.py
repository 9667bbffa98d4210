"""Time-ordered identifiers (RFC 9562, version 7)."""

from __future__ import annotations

import os
import time
from typing import Final

_BYTES: Final = 10
_STOCK: Final = 400 * _BYTES


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


_NOISE: Final = _Noise()
os.register_at_fork(after_in_child=_NOISE.forget)


def uuid7() -> str:
    """Milliseconds since 1970 in the first 48 bits, 74 random bits behind them."""
    moment = f"{time.time_ns() // 1_000_000 & (1 << 48) - 1:012x}"
    noise = _NOISE.take()
    variant = "89ab"[int(noise[3], 16) & 3]
    return f"{moment[:8]}-{moment[8:]}-7{noise[:3]}-{variant}{noise[4:7]}-{noise[7:19]}"
