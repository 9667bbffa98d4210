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


@pytest.mark.parametrize(
    ("ran", "ok"),
    [
        (Ran(1, "", "auth check failure, please check username and password"), True),
        (Ran(0, ANSWER, ""), False),
        (Ran(1, "", "Fail connecting to server"), False),
    ],
)
def test_default_password_must_be_refused_by_the_server(ran: Ran, ok: bool) -> None:
    assert checks.default_password(TARGET, lambda: ran).ok is ok


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


def test_the_call_without_a_certificate_is_a_whole_one() -> None:
    frame = checks.request_frame("vector1.site.example")
    length = int.from_bytes(frame[:3], "big")
    assert frame[3:9] == bytes((1, 5, 0, 0, 0, 1))
    assert len(frame) == 9 + length
    assert frame[9:11] == b"\x83\x87"
    assert frame.endswith(b"\x41\x14vector1.site.example")


@pytest.mark.parametrize(
    ("kinds", "said"),
    [
        ((4,), ""),
        ((4, 8, 3), "refused: stream reset"),
        ((4, 7), "refused: connection closed"),
        ((4, 1, 3), "answered with headers"),
    ],
)
def test_frames_say_whether_the_request_was_answered(kinds: tuple[int, ...], said: str) -> None:
    frames = b"".join(bytes((0, 0, 4, kind, 0, 0, 0, 0, 1)) + b"\0\0\0\x01" for kind in kinds)
    assert checks.verdict(frames) == said
    assert checks.verdict(frames[:9]) == ""
