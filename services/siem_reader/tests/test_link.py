"""What goes to rsyslog and when, over a real socket."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tresor_siem.link import KNOCK_SECONDS, MAX_KNOCKS, STUCK_SECONDS, Link
from tresor_siem.proof import Sample
from tresor_siem.spool import Spool

WINDOW, LIMIT = 4, 20
PEERS: list[socket.socket] = []


@pytest.fixture
def server(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(tmp_path / "input"))
        listener.listen()
        yield listener
    while PEERS:
        PEERS.pop().close()


def begin(tmp_path: Path, server: socket.socket, count: int) -> tuple[Spool, Link, socket.socket]:
    (tmp_path / "spool").mkdir()
    spool = Spool(tmp_path / "spool")
    spool.append([b"m%d" % number for number in range(count)], {})
    link = Link(tmp_path / "input", spool, WINDOW, LIMIT)
    peer, _ = server.accept()
    peer.setblocking(False)
    PEERS.append(peer)
    return spool, link, peer


def received(peer: socket.socket) -> list[str]:
    try:
        data = peer.recv(1 << 20)
    except BlockingIOError:
        return []
    found = []
    while data:
        size, _, rest = data.partition(b" ")
        found.append(rest[: int(size)].decode())
        data = rest[int(size) :]
    return found


def test_nothing_goes_before_the_count_is_known(tmp_path: Path, server: socket.socket) -> None:
    _, link, peer = begin(tmp_path, server, 5)
    link.observe(Sample(0, 0, "s"))
    link.pump(0)
    assert received(peer) == []


def test_no_more_than_the_limit_is_in_flight(tmp_path: Path, server: socket.socket) -> None:
    _, link, peer = begin(tmp_path, server, 50)
    link.observe(Sample(0, 0, "s"))
    link.observe(Sample(0, 0, "s"))
    link.pump(0)
    assert received(peer) == [f"m{number}" for number in range(LIMIT)]
    link.observe(Sample(LIMIT, 0, "s"))
    link.observe(Sample(LIMIT, 0, "s"))
    link.pump(1)
    assert received(peer) == [f"m{number}" for number in range(LIMIT, 2 * LIMIT)]


def test_proof_moves_the_spool(tmp_path: Path, server: socket.socket) -> None:
    spool, link, _ = begin(tmp_path, server, 10)
    for sample in (Sample(0, 0, "s"), Sample(0, 0, "s")):
        link.observe(sample)
    link.pump(0)
    for sample in (Sample(10, 0, "s"), Sample(10, 0, "s")):
        link.observe(sample)
    assert [data for data, _ in spool.read(spool.proven)] == [b"m6", b"m7", b"m8", b"m9"]


def test_other_connection_sends_the_unproven_again(tmp_path: Path, server: socket.socket) -> None:
    _, link, peer = begin(tmp_path, server, 10)
    for sample in (Sample(0, 0, "s"), Sample(0, 0, "s")):
        link.observe(sample)
    link.pump(0)
    assert len(received(peer)) == 10
    link.observe(Sample(10, 0, "other"))
    link.pump(1)
    assert received(peer) == [f"m{number}" for number in range(10)]


def test_without_a_connection_one_message_knocks(tmp_path: Path, server: socket.socket) -> None:
    _, link, peer = begin(tmp_path, server, 10)
    for sample in (Sample(0, 0, None), Sample(0, 0, None)):
        link.observe(sample)
    link.pump(0)
    assert received(peer) == ["m0"]
    link.observe(Sample(1, 1, None))
    link.pump(KNOCK_SECONDS + 1)
    assert received(peer) == [], "the first is still waiting"


def test_end_of_rsyslog_is_noticed(tmp_path: Path, server: socket.socket) -> None:
    _, link, peer = begin(tmp_path, server, 1)
    peer.close()
    with pytest.raises(OSError, match=r"closed|Broken|reset"):
        link.pump(0)


def test_rsyslog_that_swallows_without_a_connection_is_ended(
    tmp_path: Path, server: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: ended.append((pid, number)))
    spool, link, _ = begin(tmp_path, server, 10)
    for sample in (Sample(0, 0, None), Sample(0, 0, None)):
        link.observe(sample)
    for knock in range(MAX_KNOCKS):
        link.pump(knock * (KNOCK_SECONDS + 1))
        assert ended == []
        for _ in range(2):
            link.observe(Sample(knock + 1, 0, None))
    with pytest.raises(ConnectionResetError, match="switched off"):
        link.pump(100)
    assert ended == [(os.getpid(), signal.SIGTERM)]
    assert len(list(spool.read(spool.proven))) == 10, "nothing of it counts as sent"


def test_rsyslog_that_hangs_without_a_connection_is_ended(
    tmp_path: Path, server: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[int] = []
    monkeypatch.setattr(os, "kill", lambda pid, _number: ended.append(pid))
    _, link, _ = begin(tmp_path, server, 10)
    for sample in (Sample(0, 0, None), Sample(0, 0, None)):
        link.observe(sample)
    link.pump(0)
    link.observe(Sample(1, 1, None))
    link.pump(STUCK_SECONDS - 1)
    assert ended == []
    with pytest.raises(ConnectionResetError):
        link.pump(STUCK_SECONDS)
    assert ended == [os.getpid()]
