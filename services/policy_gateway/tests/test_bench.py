"""The floors that hold on any machine: no leak, a record for each answer, bounded memory."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.policy_gateway.bench import peers, report, script
from services.policy_gateway.bench.client import Load, leaks, text_of
from services.policy_gateway.bench.peers import Peer
from services.policy_gateway.bench.process import Running, free_port, rss_mib

STREAMS = 40


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[int]:
    port = free_port()
    program = [sys.executable, "-m", "services.policy_gateway.bench.engine"]
    process = Running([*program, str(port), "1", "1"], None, tmp_path / "engine.log")
    try:
        process.wait_for(port)
        yield port
    finally:
        process.stop()


@pytest.fixture
def gateway(tmp_path: Path, engine: int) -> Iterator[Peer]:
    peer = peers.gateway(tmp_path, free_port(), free_port(), engine, None)
    yield peer
    if peer.process is not None:
        peer.process.stop()


async def one_each(peer: Peer, *, stream: bool) -> Load:
    """Every client asks once."""
    load = Load(peer.port, peer.token, STREAMS, stream=stream)
    load.count(on=True)
    load.running = False
    await load.start()
    await load.finish()
    return load


@pytest.mark.asyncio
async def test_floors_hold_on_real_sockets(tmp_path: Path, gateway: Peer) -> None:
    streams = await one_each(gateway, stream=True)
    whole = await one_each(gateway, stream=False)
    process = gateway.process
    assert process is not None
    memory = rss_mib(process.pid)
    process.stop()
    for load in (streams, whole):
        assert (load.answered, load.failed) == (STREAMS, 0)
        assert len(load.seen.bodies) == STREAMS
        assert leaks(load.seen.bodies) == 0
        for body in load.seen.bodies:
            assert "[CARD_1]" in text_of(body)
    assert memory < 150
    assert peers.audit_decisions(tmp_path) == 2 * STREAMS


@pytest.mark.asyncio
async def test_leaks_are_seen_where_there_are_some(engine: int) -> None:
    load = await one_each(Peer("engine", engine, None), stream=True)
    assert leaks(load.seen.bodies) == STREAMS
    assert text_of(load.seen.bodies[0]) == script.TEXT


def test_values_are_cut_at_every_position() -> None:
    for secret in script.SECRETS:
        start = script.TEXT.index(secret)
        cuts: set[int] = set()
        for variant in range(script.VARIANTS):
            position = 0
            for piece in script.pieces(variant):
                position += len(piece)
                cuts.add(position - start)
        assert set(range(1, len(secret))) <= cuts


def test_broken_floor_is_said() -> None:
    good = {"audit_per_answer": 1.0, "leaks": 0, "rss_mib": 70.0, "cpu_per_request_x_nginx": 5.0}
    assert report.broken_floors(good) == []
    assert report.broken_floors({**good, "leaks": 1}) == ["leaks is 1, it must be 0 or less"]
    assert "audit_per_answer" in report.broken_floors({**good, "audit_per_answer": 0.99})[0]
