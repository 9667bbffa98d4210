"""Records say what their sources say, with ids that a second reading gives again."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tresor_siem.record import MAX_MESSAGE_BYTES, Record, message
from tresor_siem.shape_files import Line, audit, drops, nginx
from tresor_siem.shape_journal import shape


def line(data: object, offset: int = 0) -> Line:
    raw = data if isinstance(data, bytes) else json.dumps(data).encode()
    return Line("gateway1", 77, offset, raw, 1_795_564_800.0)


def document(record: Record) -> dict[str, Any]:
    raw = message(record, "gateway1")
    found: dict[str, Any] = json.loads(raw[raw.index(b"{") :])
    return found


AUDIT = {
    "v": 1, "type": "decision", "id": "019ab000-0000-7000-8000-000000000001", "seq": 9,
    "time": "2026-11-25T00:00:00.123456Z", "writer": "gateway1-gateway0", "prev": "0" * 64,
    "request_id": "abc", "decision": "deny", "reason": "token_missing", "status": 401,
    "endpoint": "chat.completions", "subject": "s" * 32, "latency_us": {"total": 900},
}  # fmt: skip
ENTRY = {
    "__CURSOR": "s=1;i=2f;b=3;m=4;t=5;x=6", "__REALTIME_TIMESTAMP": "1795564800123456",
    "MESSAGE": "hello", "PRIORITY": "5", "SYSLOG_IDENTIFIER": "demo", "_PID": "42",
    "_COMM": "demo", "_SYSTEMD_UNIT": "demo.service", "SYSLOG_FACILITY": "10",
}  # fmt: skip


def test_audit_record_keeps_its_own_id_and_every_field() -> None:
    found = document(audit(line(AUDIT)))
    assert found["event"]["id"] == AUDIT["id"]
    assert found["tresor"]["audit"] == AUDIT
    assert found["event"]["outcome"] == "failure"
    assert found["event"]["duration"] == 900_000
    assert found["http"]["request"]["id"] == "abc"
    assert found["http"]["response"]["status_code"] == 401
    assert found["user"]["id"] == AUDIT["subject"]
    assert found["@timestamp"] == AUDIT["time"]


def test_gap_in_the_audit_is_an_alert() -> None:
    gap = {**AUDIT, "type": "gap", "problem": "disk full", "refused": 3}
    record = audit(line(gap))
    assert document(record)["event"]["kind"] == "alert"
    assert record.severity == 3


def test_withheld_answer_names_its_request_as_a_failure() -> None:
    withheld = {**AUDIT, "type": "withheld", "status": 503, "reason": "audit_timeout"}
    record = audit(line(withheld))
    assert record.severity == 4
    assert record.fields["event"]["outcome"] == "failure"
    assert record.fields["event"]["reason"] == "audit_timeout"
    assert record.fields["http"]["response"]["status_code"] == 503
    assert record.fields["http"]["request"]["id"] == "abc"


def test_use_of_kept_content_says_who_and_why() -> None:
    use = {
        **AUDIT, "type": "content", "action": "show", "outcome": "done", "operator": "olga",
        "reason": "incident 7",
    }  # fmt: skip
    record = audit(line(use))
    assert record.severity == 4
    assert record.fields["user"] == {"name": "olga"}
    event = record.fields["event"]
    assert (event["action"], event["outcome"]) == ("content-show", "success")
    assert event["reason"] == "incident 7"
    assert audit(line({**use, "outcome": "begun"})).fields["event"]["outcome"] == "unknown"


def test_nginx_line_is_known_by_its_request() -> None:
    entry = {
        "time": "2026-11-25T01:00:00+01:00", "request_id": "r1", "remote": "198.51.100.130",
        "method": "POST", "path": "/v1/chat/completions", "status": 502, "bytes": 12,
        "seconds": 0.25, "upstream_status": "502", "tls": "TLSv1.3", "agent": "curl",
    }  # fmt: skip
    found = document(nginx(line(entry)))
    assert found["event"]["id"] == "nginx-r1"
    assert found["@timestamp"] == "2026-11-25T00:00:00.000000Z"
    assert found["source"]["ip"] == "198.51.100.130"
    assert found["event"]["outcome"] == "failure"
    assert found["event"]["duration"] == 250_000_000
    assert found["tls"]["version"] == "1.3"
    assert found["log"]["level"] == "err"


def test_equal_drops_at_different_places_are_two_records() -> None:
    drop = {
        "timestamp": "2026-11-25T00:00:00.5+0000", "oob.prefix": "drop:out", "oob.out": "site0",
        "ip.protocol": 6, "src_ip": "198.51.100.40", "dest_ip": "203.0.113.10",
        "src_port": 40000, "dest_port": 4711,
    }  # fmt: skip
    first, again, second = drops(line(drop)), drops(line(drop)), drops(line(drop, 300))
    assert first.id == again.id != second.id
    found = document(first)
    assert found["destination"] == {"ip": "203.0.113.10", "port": 4711}
    assert found["network"] == {"direction": "outbound", "transport": "tcp"}
    assert found["event"]["type"] == ["connection", "denied"]


@pytest.mark.parametrize("shaper", [audit, nginx, drops])
@pytest.mark.parametrize("raw", [b'{"id": "cut o', b"[]", b"\xff\xfe", b"[" * 100_000])
def test_unreadable_line_is_forwarded_whole(shaper: Any, raw: bytes) -> None:
    record = shaper(line(raw))
    assert record.message == raw.decode("utf-8", "replace")
    assert record.fields["event"]["kind"] == "pipeline_error"
    assert record.id == shaper(line(raw)).id


def test_journal_entry_has_time_facility_and_an_id_of_its_cursor() -> None:
    record = shape(ENTRY, "gateway1")
    raw = message(record, "gateway1")
    assert raw.startswith(b"<85>1 2026-11-25T00:00:00.123456Z gateway1 demo 42 journal - {")
    other = shape({**ENTRY, "__CURSOR": "s=1;i=30;b=3;m=4;t=5;x=6"}, "gateway1")
    assert record.id == shape(dict(ENTRY), "gateway1").id != other.id


@pytest.mark.parametrize(
    ("text", "outcome", "user"),
    [
        ("Accepted publickey for tresor from 198.51.100.10 port 4 ssh2", "success", "tresor"),
        ("Failed password for invalid user eve from 2001:db8::1 port 5 ssh2", "failure", "eve"),
        ("Invalid user eve from 198.51.100.9 port 6", "failure", "eve"),
    ],
)
def test_login_says_who_from_where_and_how_it_ended(text: str, outcome: str, user: str) -> None:
    found = document(shape({**ENTRY, "SYSLOG_IDENTIFIER": "sshd", "MESSAGE": text}, "h"))
    assert found["event"]["category"] == ["authentication"]
    assert found["event"]["outcome"] == outcome
    assert found["user"]["name"] == user
    assert found["source"]["ip"]


@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        ("  tresor : PWD=/root ; USER=root ; COMMAND=/bin/ls", "success"),
        ("eve : user NOT in sudoers ; TTY=pts/0 ; USER=root ; COMMAND=/bin/sh", "failure"),
    ],
)
def test_sudo_says_whether_it_was_allowed(text: str, outcome: str) -> None:
    found = document(shape({**ENTRY, "SYSLOG_IDENTIFIER": "sudo", "MESSAGE": text}, "h"))
    assert found["event"]["outcome"] == outcome
    assert found["user"]["effective"]["name"] == "root"


def test_run_of_ansible_keeps_its_fields() -> None:
    text = json.dumps({"action": "site.yml", "outcome": "failure", "rc": 2})
    found = document(shape({**ENTRY, "SYSLOG_IDENTIFIER": "tresor-run", "MESSAGE": text}, "h"))
    assert found["tresor"]["run"]["rc"] == 2
    assert found["event"]["action"] == "site.yml"
    assert found["event"]["outcome"] == "failure"
    assert found["event"]["dataset"] == "tresor.run"


def test_journal_fields_that_are_no_text_do_no_harm() -> None:
    entry = {**ENTRY, "MESSAGE": [104, 105, 255], "PRIORITY": ["3", "4"], "_PID": None}
    record = shape(entry, "h")
    assert record.message == "hi\ufffd"
    assert record.process == "-"


def test_long_message_is_cut_and_says_so() -> None:
    record = shape({**ENTRY, "MESSAGE": "ä" * 200_000}, "gateway1")
    raw = message(record, "gateway1")
    found = document(record)
    assert len(raw) <= MAX_MESSAGE_BYTES
    assert found["tresor"]["cut"]["bytes"] > 400_000
    assert len(found["tresor"]["cut"]["sha256"]) == 64
    assert found["event"]["id"] == record.id


def test_line_ends_in_a_message_stay_inside_one_record() -> None:
    raw = message(shape({**ENTRY, "MESSAGE": "two\nlines"}, "gateway1"), "gateway1")
    assert b"\n" not in raw
