"""Cookies that belong to this host alone: read strictly, written with every protection."""

from __future__ import annotations

import re
from typing import Final

SESSION: Final = "__Host-tresor-session"
LOGIN: Final = "__Host-tresor-login"
_VALUE: Final = re.compile(r"[A-Za-z0-9_.-]{1,256}")

Header = tuple[bytes, bytes]


def read(header: bytes | None, name: str) -> str | None:
    """The value of cookie ``name``; none when it is missing, malformed or there more than once."""
    if header is None:
        return None
    found = [
        value
        for pair in header.decode("latin-1").split(";")
        for key, separator, value in [pair.strip().partition("=")]
        if separator and key == name
    ]
    return found[0] if len(found) == 1 and _VALUE.fullmatch(found[0]) else None


def write(name: str, value: str, seconds: int) -> Header:
    """``Set-Cookie`` for a cookie that lives ``seconds``."""
    text = f"{name}={value}; Path=/; Max-Age={seconds}; Secure; HttpOnly; SameSite=Lax"
    return b"Set-Cookie", text.encode("ascii")


def delete(name: str) -> Header:
    """``Set-Cookie`` that removes a cookie."""
    return write(name, "", 0)
