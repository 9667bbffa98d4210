"""What was logged out stays out, on every worker, whatever happens to the list."""

from __future__ import annotations

from pathlib import Path

import pytest

from tresor_gateway.errors import ConfigError
from tresor_gateway.identity import revocations as module
from tresor_gateway.identity.revocations import Revocations

TOKEN = b"t" * 32


class Clock:
    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def listed(path: Path | None, clock: Clock, keep: float = 600) -> Revocations:
    return Revocations(path, keep_seconds=keep, wall=clock)


@pytest.fixture
def clock() -> Clock:
    return Clock(10_000.0)


def test_every_process_sees_a_logout_at_its_next_look(tmp_path: Path, clock: Clock) -> None:
    one, two = listed(tmp_path / "r", clock), listed(tmp_path / "r", clock)
    before = [view.version() for view in (one, two)]
    one.revoke("session", "s1")
    for view, version in zip((one, two), before, strict=True):
        assert view.version() != version
        assert view.version() == view.version()
        assert view.revoked("alice", "s1", TOKEN, 9_000)
        assert not view.revoked("alice", "s2", TOKEN, 9_000)
        assert not view.revoked("alice", None, TOKEN, 9_000)


def test_subject_is_out_until_its_next_login(tmp_path: Path, clock: Clock) -> None:
    view = listed(tmp_path / "r", clock)
    view.revoke("subject", "alice", until=9_500)
    view.revoke("subject", "alice", until=9_000)
    view.version()
    assert view.revoked("alice", None, TOKEN, 9_500)
    assert not view.revoked("alice", None, TOKEN, 9_501)
    assert not view.revoked("bob", None, TOKEN, 9_000)


def test_single_token_is_out(clock: Clock) -> None:
    view = listed(None, clock)
    view.revoke("token", TOKEN.hex())
    view.version()
    assert view.revoked("alice", None, TOKEN, 9_999)
    assert not view.revoked("alice", None, b"u" * 32, 9_999)


def test_list_survives_a_restart_and_is_forgotten_when_tokens_are_dead(
    tmp_path: Path, clock: Clock
) -> None:
    view = listed(tmp_path / "r", clock)
    view.revoke("session", "s1")
    view.close()
    clock.now += 600
    again = listed(tmp_path / "r", clock)
    again.version()
    assert again.revoked("alice", "s1", TOKEN, 9_000)
    clock.now += 2
    again.revoke("session", "s2")
    again.version()
    assert not again.revoked("alice", "s1", TOKEN, 9_000)
    assert again.revoked("alice", "s2", TOKEN, 9_000)
    # The place of what is forgotten is used again.
    assert again._map[: 8 + 8 + 8][20:24] == (1).to_bytes(4, "little")


@pytest.mark.parametrize("damage", [b"garbage", b"\0" * 4096])
def test_damaged_list_revokes_everything_issued_so_far(
    tmp_path: Path, clock: Clock, damage: bytes
) -> None:
    (tmp_path / "r").write_bytes(damage)
    view = listed(tmp_path / "r", clock)
    view.version()
    assert view.revoked("anybody", None, TOKEN, 10_000)
    assert not view.revoked("anybody", None, TOKEN, 10_001)


def test_full_list_revokes_everything_issued_so_far(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SLOTS", 3)
    view = listed(tmp_path / "r", clock)
    for number in range(4):
        view.revoke("session", str(number))
    view.version()
    assert view.revoked("anybody", None, TOKEN, 10_000)
    assert not view.revoked("anybody", None, TOKEN, 10_001)


def test_list_is_for_the_service_alone_and_a_missing_folder_stops_the_start(
    tmp_path: Path, clock: Clock
) -> None:
    listed(tmp_path / "r", clock)
    assert (tmp_path / "r").stat().st_mode & 0o777 == 0o600
    with pytest.raises(ConfigError, match=r"identity\.revocations\.file"):
        listed(tmp_path / "none" / "r", clock)
