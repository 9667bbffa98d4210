"""Lines of log files as records: audit, NGINX, dropped packets, and what is none of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tresor_siem.record import Record, digest

_AUDIT, _LOCAL = 13, 16  # facilities: log audit, local use 0
_NOTICE, _INFO, _WARNING, _ERROR = 5, 6, 4, 3
_PROTOCOLS = {1: "icmp", 6: "tcp", 17: "udp", 58: "ipv6-icmp"}


@dataclass(frozen=True)
class Line:
    """A line with the place it stands at: inode and byte offset, which renaming leaves alone."""

    host: str
    inode: int
    offset: int
    data: bytes
    read_time: float
    """Seconds since 1970 when it was read: only for lines that bear no time."""


Shaper = Callable[[Line], Record]


def audit(line: Line) -> Record:
    """Shape a record of the policy gateway (docs/audit-format.md)."""
    entry = _object(line)
    if entry is None or not {"id", "time", "type"} <= entry.keys():
        return unreadable("tresor.audit", line)
    kind = str(entry["type"])
    event: dict[str, Any] = {"kind": "event", "category": ["process"], "action": kind}
    fields: dict[str, Any] = {"event": event, "tresor": {"audit": entry}}
    severity = _NOTICE
    text = f"audit {kind}"
    if kind == "decision":
        decision = str(entry.get("decision", "unknown"))
        endpoint = str(entry.get("endpoint", "unknown"))
        event["category"] = ["web"]
        event["type"] = ["access", "allowed" if decision == "allow" else "denied"]
        event["action"] = endpoint
        event["outcome"] = "success" if decision == "allow" else "failure"
        event["reason"] = str(entry.get("reason", ""))
        latency = entry.get("latency_us", {})
        if isinstance(latency, dict) and isinstance(latency.get("total"), int):
            event["duration"] = latency["total"] * 1000
        fields["http"] = _http(
            entry.get("request_id"), entry.get("status"), None, entry.get("response_bytes")
        )
        if "subject" in entry:
            fields["user"] = {"id": entry["subject"]}
        severity = {"allow": _INFO, "deny": _NOTICE}.get(decision, _WARNING)
        text = f"{decision} {endpoint}: {entry.get('reason')} ({entry.get('status')})"
    elif kind == "content":
        # Somebody read or destroyed what users wrote: worth a look each time.
        outcome = {"done": "success", "failed": "failure"}.get(str(entry.get("outcome")), "unknown")
        event |= {
            "category": ["database"],
            "type": ["access" if entry.get("action") == "show" else "change"],
            "action": f"content-{entry.get('action')}",
            "outcome": outcome,
            "reason": str(entry.get("reason", "")),
        }
        fields["user"] = {"name": str(entry.get("operator", ""))}
        severity = _WARNING
        text = f"content {entry.get('action')} by {entry.get('operator')}: {entry.get('outcome')}"
    elif kind == "withheld":
        # The decision of this request says that it was answered, and it was not.
        event |= {"category": ["web"], "outcome": "failure", "reason": str(entry.get("reason", ""))}
        fields["http"] = _http(entry.get("request_id"), entry.get("status"), None, None)
        severity = _WARNING
        text = f"answer withheld: {entry.get('reason')} ({entry.get('status')})"
    elif kind in {"gap", "repair"}:
        event |= {"kind": "alert", "outcome": "failure"}
        severity = _ERROR
    return Record(
        str(entry["id"]), str(entry["time"]), "tresor-gateway", "tresor.audit", text,
        _AUDIT, severity, fields,
    )  # fmt: skip


def nginx(line: Line) -> Record:
    """Shape a line of NGINX's access log; its id is the request's."""
    entry = _object(line)
    if entry is None or not {"request_id", "time", "status"} <= entry.keys():
        return unreadable("nginx.access", line)
    status = entry["status"] if isinstance(entry["status"], int) else 0
    known = {
        "time", "request_id", "remote", "method", "path", "status", "bytes", "seconds", "tls",
        "agent",
    }  # fmt: skip
    event = {
        "kind": "event",
        "category": ["web"],
        "type": ["access"],
        "action": "http-request",
        "outcome": "success" if 0 < status < 400 else "failure",
        "duration": int(float(entry.get("seconds") or 0) * 1e9),
    }
    fields: dict[str, Any] = {
        "event": event,
        "source": {"ip": entry.get("remote", "")},
        "http": _http(entry["request_id"], status, entry.get("method"), entry.get("bytes")),
        "url": {"path": entry.get("path", "")},
        "user_agent": {"original": entry.get("agent", "")},
        "tls": {"version": str(entry.get("tls", "")).removeprefix("TLSv")},
        "tresor": {"nginx": {key: entry[key] for key in entry if key not in known}},
    }
    return Record(
        f"nginx-{entry['request_id']}", utc(str(entry["time"])) or _stamp(line.read_time),
        "nginx", "nginx.access", f"{entry.get('method')} {entry.get('path')} {status}",
        _LOCAL, _ERROR if status >= 500 else _INFO, fields,
    )  # fmt: skip


def drops(line: Line) -> Record:
    """Shape a dropped packet as ulogd's JSON output writes it."""
    entry = _object(line)
    if entry is None or "timestamp" not in entry:
        return unreadable("tresor.firewall", line)
    prefix = str(entry.get("oob.prefix", "")).strip()
    inbound = bool(entry.get("oob.in"))
    protocol = entry.get("ip.protocol", entry.get("ip6.nexthdr"))
    ends = {
        side: {
            key: value
            for key, value in (
                ("ip", entry.get(f"{name}_ip")),
                ("port", entry.get(f"{name}_port")),
            )
            if value not in (None, "")
        }
        for side, name in (("source", "src"), ("destination", "dest"))
    }
    fields: dict[str, Any] = {
        "event": {
            "kind": "event",
            "category": ["network"],
            "type": ["connection", "denied"],
            "action": "drop",
            "outcome": "failure",
        },
        "network": {
            "direction": "inbound" if inbound else "outbound",
            "transport": _PROTOCOLS.get(protocol, str(protocol)) if protocol is not None else "",
        },
        "rule": {"name": prefix.removesuffix(":")},
        "tresor": {"firewall": entry},
        **ends,
    }
    target = ends["destination"]
    return Record(
        f"drop-{_place(line)}", utc(str(entry["timestamp"])) or _stamp(line.read_time),
        "tresor-firewall", "tresor.firewall",
        f"dropped {fields['network']['direction']} {fields['network']['transport']} from "
        f"{ends['source'].get('ip', '?')} to {target.get('ip', '?')} "
        f"port {target.get('port', '-')}",
        _LOCAL, _NOTICE, fields,
    )  # fmt: skip


def unreadable(dataset: str, line: Line) -> Record:
    """Return a line that is not what it should be, whole: nothing is left out silently."""
    event = {"kind": "pipeline_error", "action": "unreadable-line", "outcome": "unknown"}
    return Record(
        f"line-{_place(line)}", _stamp(line.read_time), "tresor-siem", dataset,
        line.data.decode("utf-8", "replace"), _LOCAL, _WARNING, {"event": event},
    )  # fmt: skip


def utc(text: str) -> str | None:
    """Return a time with any offset as RFC 3339 in UTC, or None for what is no time."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    moment = moment.astimezone(UTC)
    return moment.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def _stamp(seconds: float) -> str:
    moment = datetime.fromtimestamp(seconds, UTC)
    return moment.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def _place(line: Line) -> str:
    return digest(line.host, str(line.inode), str(line.offset), line.data)


def _object(line: Line) -> dict[str, Any] | None:
    try:
        entry = json.loads(line.data)
    except (ValueError, RecursionError):
        return None
    return entry if isinstance(entry, dict) else None


def _http(request: object, status: object, method: object, size: object) -> dict[str, Any]:
    ask = {key: value for key, value in (("id", request), ("method", method)) if value}
    answer: dict[str, Any] = {"status_code": status} if status else {}
    if isinstance(size, int):
        answer["body"] = {"bytes": size}
    return {"request": ask, "response": answer}


SHAPERS: dict[str, Shaper] = {"audit": audit, "nginx": nginx, "firewall": drops}
