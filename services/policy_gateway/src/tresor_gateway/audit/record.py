"""The records of the audit log; ``docs/audit-format.md`` is their definition.

Only integers, booleans, strings and lists of strings: then sorting the keys is all that
canonical JSON needs.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final, Literal

import msgspec

from tresor_gateway.audit.uuid7 import uuid7

VERSION: Final = 1
GENESIS: Final = "0" * 64


def timestamp(seconds: float) -> str:
    """Unix time as RFC 3339 in UTC with microseconds."""
    whole = int(seconds)
    return f"{_second(whole)}.{int((seconds - whole) * 1e6):06d}Z"


@lru_cache(maxsize=4)
def _second(whole: int) -> str:
    # Ends in "+00:00", which RFC 3339 also writes as Z.
    return datetime.fromtimestamp(whole, UTC).isoformat()[:-6]


class Base(msgspec.Struct, kw_only=True, omit_defaults=True, gc=False):
    """What every record has; the writer fills in ``prev``, ``seq`` and ``writer``."""

    id: str
    time: str
    v: int = 0
    type: str = ""
    writer: str = ""
    seq: int = 0
    prev: str = ""


class TokenCounts(msgspec.Struct, gc=False):
    """Tokens of a request as the engine counted them."""

    prompt: int
    completion: int
    total: int


class Latency(msgspec.Struct, omit_defaults=True, gc=False):
    """Microseconds from the request's first byte."""

    total: int
    first: int = -1


class ContentRef(msgspec.Struct, omit_defaults=True, gc=False):
    """Where the content of a request is kept; ``sha256`` is that of the ciphertext."""

    kept: Literal["masked", "full", "failed"]
    sha256: str = ""
    bytes: int = 0
    file: str = ""
    offset: int = -1
    key: str = ""


class Decision(Base):
    """One request, allowed or not."""

    request_id: str
    decision: Literal["allow", "deny", "error"]
    reason: str
    status: int
    endpoint: str
    subject: str = ""
    tenant: str = ""
    client: str = ""
    account: str = ""
    auth: str = ""
    token: str = ""
    groups: list[str] = []
    model: str = ""
    model_digest: str = ""
    variant: str = ""
    route: str = ""
    fallback_of: str = ""
    engine: str = ""
    attempts: int = 0
    parameters: dict[str, int | bool] = {}
    guardrails: dict[str, str] = {}
    findings: dict[str, int] = {}
    classifiers: dict[str, str] = {}
    tokens: TokenCounts | None = None
    latency_us: Latency | None = None
    request_bytes: int = 0
    response_bytes: int = 0
    content: ContentRef | None = None


class Start(Base):
    """A writer begins or goes on with its chain."""

    version: str
    pid: int
    file: str


class Repair(Base):
    """The end of the previous file was damaged; what was there is kept here."""

    file: str
    kind: Literal["torn", "broken"]
    line: int
    bytes: int
    sha256: str
    data: str = ""


class Content(Base):
    """Somebody used the content store: read from it, or destroyed a part of it."""

    action: Literal["show", "erase", "expire", "pseudonym"]
    outcome: Literal["begun", "done", "failed"]
    operator: str
    reason: str = ""
    approvals: list[str] = []
    subject: str = ""
    day: str = ""
    record: str = ""
    keys: int = 0
    days: list[str] = []
    problem: str = ""


class Gap(Base):
    """Records could not be written for a while; requests were refused meanwhile."""

    refused: int
    problem: str


class Withheld(Base):
    """The answer of a decision was held back, because its record was not on disk in time."""

    decision: str
    request_id: str
    status: int
    reason: str


_ENCODER: Final = msgspec.json.Encoder(order="sorted")


def withheld(record: Decision, status: int, reason: str) -> Withheld:
    """What happened instead of the answer that ``record`` speaks of."""
    return Withheld(
        id=uuid7(),
        time=timestamp(time.time()),
        decision=record.id,
        request_id=record.request_id,
        status=status,
        reason=reason,
    )


def encode(record: Base) -> bytes:
    """One canonical JSON line without its newline."""
    return _ENCODER.encode(record)
