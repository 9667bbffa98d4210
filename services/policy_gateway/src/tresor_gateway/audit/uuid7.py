"""Time-ordered identifiers (RFC 9562, version 7)."""

from __future__ import annotations

import os
import time


def uuid7() -> str:
    """Milliseconds since 1970 in the first 48 bits, 74 random bits behind them."""
    moment = f"{time.time_ns() // 1_000_000 & (1 << 48) - 1:012x}"
    noise = os.urandom(10).hex()
    variant = "89ab"[int(noise[3], 16) & 3]
    return f"{moment[:8]}-{moment[8:]}-7{noise[:3]}-{variant}{noise[4:7]}-{noise[7:19]}"
