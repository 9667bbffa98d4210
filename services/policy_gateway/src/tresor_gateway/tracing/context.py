"""The header ``traceparent`` (W3C Trace Context, level 1): bytes in, values out."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Final

_HEADER: Final = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_NO_TRACE: Final = "0" * 32
_NO_SPAN: Final = "0" * 16


@dataclass(frozen=True)
class Context:
    """Where a request belongs; ids are lower-case hex."""

    trace: str
    span: str


def parse(header: bytes) -> Context | None:
    """What a client says; none if it says nothing valid."""
    match = _HEADER.fullmatch(header)
    if match is None:
        return None
    version, trace, span, _, more = match.groups()
    if version == b"ff" or (version == b"00" and more):
        return None
    context = Context(trace.decode(), span.decode())
    return None if context.trace == _NO_TRACE or context.span == _NO_SPAN else context


def header(context: Context, *, sampled: bool) -> bytes:
    """A whole header line for the next one."""
    return b"traceparent: 00-%b-%b-%b\r\n" % (
        context.trace.encode(),
        context.span.encode(),
        b"01" if sampled else b"00",
    )


def new_trace() -> str:
    """A random trace id."""
    return os.urandom(16).hex()


def new_span() -> str:
    """A random span id."""
    return os.urandom(8).hex()
