"""Time-ordered identifiers (RFC 9562, version 7)."""

from __future__ import annotations

import os
import time


def uuid7() -> str:
    """Milliseconds since 1970 in the first 48 bits, 74 random bits behind them."""
    moment = time.time_ns() // 1_000_000
    noise = int.from_bytes(os.urandom(10), "big")
    number = (
        (moment & (1 << 48) - 1) << 80
        | 0x7 << 76
        | (noise >> 64 & 0xFFF) << 64
        | 0b10 << 62
        | noise & (1 << 62) - 1
    )
    text = f"{number:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
