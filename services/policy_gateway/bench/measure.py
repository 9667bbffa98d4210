"""One measurement: a load on one peer for a while, and what it cost."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from statistics import quantiles

from services.policy_gateway.bench.client import Load, leaks
from services.policy_gateway.bench.peers import Peer
from services.policy_gateway.bench.process import cpu_seconds, rss_mib


@dataclass(frozen=True)
class Result:
    """Times in seconds, memory in MiB; ``tokens`` are those the engine sent meanwhile."""

    peer: str
    clients: int
    stream: bool
    seconds: float
    answers: int
    failures: int
    tokens: int
    cpu: float
    rss: float
    leaks: int
    checked: int
    total_p50: float
    first_event_p95: float
    first_token_p95: float
    gap_p95: float
    asked: int

    @property
    def cpu_per_answer(self) -> float:
        """CPU seconds of the peer for one whole answer."""
        return self.cpu / max(self.answers, 1)

    @property
    def cpu_per_token(self) -> float:
        """CPU seconds of the peer for one token that the engine sent."""
        return self.cpu / max(self.tokens, 1)


async def measure(
    peer: Peer, engine: int, clients: int, *, stream: bool, seconds: float, warm: float
) -> Result:
    """Put ``clients`` on the peer; look at ``seconds`` of it after ``warm`` seconds."""
    load = Load(peer.port, peer.token, clients, stream=stream)
    await load.start()
    await asyncio.sleep(warm)
    pid = peer.process.pid if peer.process is not None else 0
    load.count(on=True)
    began, cpu, tokens = time.perf_counter(), cpu_seconds(pid), await _tokens(engine)
    before = load.answered
    await asyncio.sleep(seconds)
    used, sent = cpu_seconds(pid) - cpu, await _tokens(engine) - tokens
    lasted = time.perf_counter() - began
    answers = load.answered - before
    memory = rss_mib(pid)
    load.count(on=False)
    await load.finish()
    seen = load.seen
    return Result(
        peer=peer.name,
        clients=clients,
        stream=stream,
        seconds=lasted,
        answers=answers,
        failures=load.failed,
        tokens=sent,
        cpu=used,
        rss=memory,
        leaks=leaks(seen.bodies) if stream else leaks(seen.bodies[:200]),
        checked=len(seen.bodies) if stream else min(len(seen.bodies), 200),
        total_p50=_quantile(seen.totals, 50),
        first_event_p95=_quantile(seen.first_events, 95),
        first_token_p95=_quantile(seen.first_tokens, 95),
        gap_p95=_quantile(seen.gaps, 95),
        asked=load.answered + load.failed,
    )


async def _tokens(engine: int) -> int:
    """How many tokens the engine has sent so far."""
    reader, writer = await asyncio.open_connection("127.0.0.1", engine)
    writer.write(b"GET /tokens HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
    body = await reader.readexactly(length)
    writer.close()
    return int(json.loads(body))


def _quantile(values: list[float], percent: int) -> float:
    if len(values) < 2:
        return values[0] if values else float("nan")
    return quantiles(values, n=100)[percent - 1]
