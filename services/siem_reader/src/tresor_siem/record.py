"""A record on its way: what it says (ECS), and the syslog message (RFC 5424) that carries it."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any

MAX_MESSAGE_BYTES = 60_000
"""Longest message. rsyslog and the collector must accept more: 64 KiB."""
_KEPT_TEXT = 8_000
_LEVELS = ("emerg", "alert", "crit", "err", "warning", "notice", "info", "debug")
_UNPRINTABLE = re.compile(r"[^\x21-\x7e]")


@dataclass(frozen=True)
class Record:
    """One record: ``time`` is RFC 3339 in UTC with at most six digits of a second.

    ``facility`` and ``severity`` are syslog's numbers; ``fields`` are the rest of the ECS document.
    """

    id: str
    time: str
    service: str
    dataset: str
    message: str
    facility: int
    severity: int
    fields: dict[str, Any]
    process: str = "-"

    def document(self, host: str) -> dict[str, Any]:
        """Return the whole ECS document."""
        own: dict[str, Any] = {
            "@timestamp": self.time,
            "ecs": {"version": "8.17"},
            "event": {"id": self.id, "dataset": self.dataset, **self.fields.get("event", {})},
            "host": {"name": host},
            "log": {"level": _LEVELS[self.severity]},
            "message": self.message,
            "service": {"name": self.service},
        }
        return {**{key: value for key, value in self.fields.items() if key != "event"}, **own}


def digest(*parts: str | bytes) -> str:
    """Return 32 hex digits that stand for these parts and their order."""
    state = hashlib.sha256()
    for part in parts:
        data = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        state.update(len(data).to_bytes(8, "big"))
        state.update(data)
    return state.hexdigest()[:32]


def message(record: Record, host: str) -> bytes:
    """Return the syslog message; one that is too long is cut and says so in ``tresor.cut``."""
    header = " ".join(
        (
            f"<{record.facility * 8 + record.severity}>1",
            record.time,
            _word(host, 255),
            _word(record.service, 48),
            _word(record.process, 128),
            _word(record.dataset, 32),
            "-",
        )
    )
    document = record.document(host)
    body = _json(document)
    if len(header) + 1 + len(body) > MAX_MESSAGE_BYTES:
        body = _json(_cut(document, body))
    return header.encode("ascii") + b" " + body


def _cut(document: dict[str, Any], body: bytes) -> dict[str, Any]:
    """Return a document that fits: the long texts shortened, and a note of what it was."""
    note = {"bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()}
    kept = {key: document[key] for key in ("@timestamp", "ecs", "host", "log", "service")}
    kept["event"] = document["event"]
    kept["message"] = document["message"][:_KEPT_TEXT]
    kept["tresor"] = {"cut": note}
    for key in ("source", "http", "url", "user"):
        part = document.get(key)
        if part is not None and len(_json(part)) <= _KEPT_TEXT:
            kept[key] = part
    return kept


def _json(value: object) -> bytes:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "replace")


def _word(text: str, limit: int) -> str:
    """Return a header field: printable ASCII, bounded, ``-`` for nothing."""
    return _UNPRINTABLE.sub("_", text)[:limit] or "-"
