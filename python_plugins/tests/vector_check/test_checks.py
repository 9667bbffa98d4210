"""What counts as proven, and what does not."""

from __future__ import annotations

import json

import pytest

from tresor.vector_check import checks
from tresor.vector_check.checks import Ran, Target

TARGET = Target("bastion1", "vector1", "vector1.site.example", 19530, (2379, 9091), "/ca.crt")
ANSWER = json.dumps({"version": "3.2.2", "collections": ["a"], "described": "a", "searched": 1})


def test_served_client_is_proven() -> None:
    check = checks.serves(TARGET, lambda: Ran(0, ANSWER, ""))
    assert check.ok
    assert check.id == "vector.serves.vector1"


def test_failed_client_is_not() -> None:
    check = checks.serves(TARGET, lambda: Ran(1, "", "tresor_vector probe: refused"))
    assert not check.ok
    assert "refused" in check.observed


CONNECTION = "Fail connecting to server, illegal connection params or server unavailable"


@pytest.mark.parametrize(
    ("ran", "own", "ok"),
    [
        (Ran(1, "", "auth check failure, please check username and password"), 0, True),
        (Ran(1, "", CONNECTION), 0, True),
        (Ran(1, "", CONNECTION), 1, False),
        (Ran(0, ANSWER, ""), 0, False),
        (Ran(1, "", "no module named pymilvus"), 0, False),
    ],
)
def test_default_password_must_be_refused_by_a_server_that_answers(
    ran: Ran, own: int, ok: bool
) -> None:
    assert checks.default_password(TARGET, lambda: ran, lambda: Ran(own, "", "")).ok is ok


@pytest.mark.parametrize(
    ("seen", "ok"),
    [
        ("refused: alert", True),
        ("answered with headers", False),
        ("not reached: timed out", False),
        ("no refusal within the time", False),
    ],
)
def test_silence_of_a_dead_server_is_no_proof(seen: str, ok: bool) -> None:
    assert checks.no_certificate(TARGET, lambda _: seen).ok is ok


def test_open_management_port_fails() -> None:
    def dial(_: str, port: int, __: float) -> str:
        return "open" if port == 9091 else "closed"

    check = checks.closed(TARGET, dial)
    assert not check.ok
    assert check.observed == "open: 9091"
    assert checks.closed(TARGET, lambda *_: "closed").ok


def test_request_is_a_whole_frame_with_the_servers_name() -> None:
    frame = checks.request("vector1.site.example")
    assert int.from_bytes(frame[:3], "big") == len(frame) - 9
    assert frame[3:9] == b"\x01\x05\x00\x00\x00\x01"
    assert frame.endswith(b"\x41\x14vector1.site.example")


def test_a_reset_is_seen_behind_the_servers_settings() -> None:
    settings = bytes((0, 0, 6, 4, 0, 0, 0, 0, 0)) + b"\0\3\0\0\0\x80"
    reset = bytes((0, 0, 4, 3, 0, 0, 0, 0, 1)) + b"\0\0\0\2"
    assert checks.frame_types(settings + reset) == {4, 3}
    assert checks.frame_types(settings + reset[:8]) == {4}
