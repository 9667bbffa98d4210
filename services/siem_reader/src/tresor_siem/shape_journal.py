"""Entries of the journal as records; sshd, sudo and the platform's own lines get their fields."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Any

from tresor_siem.record import Record, digest

_OWN = {
    "tresor-alert": "alert",
    "tresor-run": "run",
    "tresor-bundle": "bundle",
    "tresor-probe": "probe",
}
_LOGIN = re.compile(
    r"(?P<verb>Accepted|Failed) \S+ for (?:invalid user )?(?P<user>\S*) from "
    r"|Invalid user (?P<unknown>\S*) from "
)
_PEER = re.compile(r"from (?P<ip>[0-9a-fA-F.:]+) port (?P<port>\d+)")
_SUDO = re.compile(r"\s*(?P<user>\S+) : (?P<rest>.*)", re.DOTALL)
_SUDO_TARGET = re.compile(r"USER=(?P<target>\S+)")
_DAEMON = 3
_FAILURES = frozenset({"failed", "failure", "denied", "refused", "error"})


def shape(entry: dict[str, Any], host: str) -> Record:
    """Return the record of an entry as ``journalctl --output=json --all`` prints it.

    The id stands for the entry's cursor, which no other entry has.
    """
    text = _text(entry.get("MESSAGE"))
    name = _text(entry.get("SYSLOG_IDENTIFIER")) or _text(entry.get("_COMM")) or "unknown"
    event: dict[str, Any] = {"kind": "event"}
    fields: dict[str, Any] = {"event": event}
    process = _process(entry)
    if process:
        fields["process"] = process
    unit = _text(entry.get("_SYSTEMD_UNIT"))
    tresor: dict[str, Any] = {"unit": unit} if unit else {}
    dataset = "journal"
    if name in {"sshd", "sshd-session", "sshd-auth"}:
        dataset = "sshd"
        _sshd(text, event, fields)
    elif name == "sudo":
        dataset = "sudo"
        _sudo(text, event, fields)
    elif name in _OWN:
        dataset = f"tresor.{_OWN[name]}"
        _own(_OWN[name], text, event, tresor)
    if tresor:
        fields["tresor"] = tresor
    return Record(
        f"journal-{digest(_text(entry.get('__CURSOR')))}",
        _time(entry),
        name,
        dataset,
        text,
        _number(entry.get("SYSLOG_FACILITY"), _DAEMON, 23),
        _number(entry.get("PRIORITY"), 6, 7),
        fields,
        _text(entry.get("_PID")) or _text(entry.get("SYSLOG_PID")) or "-",
    )


def _text(value: object) -> str:
    """Return a field as text: journalctl prints bytes as numbers and repeated fields as a list."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        if value and all(isinstance(part, int) for part in value):
            return bytes(value).decode("utf-8", "replace")
        return "\n".join(_text(part) for part in value)
    return ""


def _number(value: object, default: int, most: int) -> int:
    text = _text(value)
    return int(text) if text.isdigit() and int(text) <= most else default


def _time(entry: dict[str, Any]) -> str:
    micro = int(_text(entry.get("__REALTIME_TIMESTAMP")) or 0)
    moment = datetime.fromtimestamp(micro // 1_000_000, UTC).replace(microsecond=micro % 1_000_000)
    return moment.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def _process(entry: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    pid = _text(entry.get("_PID"))
    if pid.isdigit():
        found["pid"] = int(pid)
    name = _text(entry.get("_COMM"))
    if name:
        found["name"] = name
    return found


def _sshd(text: str, event: dict[str, Any], fields: dict[str, Any]) -> None:
    event |= {"category": ["session"], "action": "ssh"}
    peer = _PEER.search(text)
    if peer:
        fields["source"] = {"ip": peer["ip"], "port": int(peer["port"])}
    found = _LOGIN.match(text)
    if found:
        event["category"] = ["authentication"]
        event["action"] = "ssh-login"
        event["outcome"] = "success" if found["verb"] == "Accepted" else "failure"
        fields["user"] = {"name": found["user"] or found["unknown"] or ""}


def _sudo(text: str, event: dict[str, Any], fields: dict[str, Any]) -> None:
    event |= {"category": ["session"], "action": "sudo"}
    found = _SUDO.match(text)
    if not found or "COMMAND=" not in found["rest"]:
        return
    # Between the name and TTY= sudo says what went wrong, and nothing where nothing did.
    refused = not found["rest"].startswith(("TTY=", "PWD="))
    event["category"] = ["authentication"]
    event["outcome"] = "failure" if refused else "success"
    user: dict[str, Any] = {"name": found["user"]}
    target = _SUDO_TARGET.search(found["rest"])
    if target:
        user["effective"] = {"name": target["target"]}
    fields["user"] = user


def _own(kind: str, text: str, event: dict[str, Any], tresor: dict[str, Any]) -> None:
    """Add what a line of the platform says; it is one JSON object."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        event |= {"kind": "pipeline_error", "action": "unreadable-line"}
        return
    tresor[kind] = content
    event["kind"] = "alert" if kind == "alert" else "event"
    event["category"] = ["configuration"] if kind in {"run", "bundle"} else ["host"]
    action = content.get("action") or content.get("event") or content.get("verb") or kind
    event["action"] = str(action)
    outcome = content.get("outcome") or content.get("result") or content.get("status")
    if isinstance(outcome, str):
        event["outcome"] = "failure" if outcome.lower() in _FAILURES else "success"
