"""``python -m services.policy_gateway.bench``: measure, print a table and, last, a JSON object."""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import uvloop

from services.policy_gateway.bench import peers, report
from services.policy_gateway.bench.measure import Result, measure
from services.policy_gateway.bench.peers import Peer
from services.policy_gateway.bench.process import Running, free_port, pin

CLIENTS: Final = 64
STREAMS: Final = 200
TOP: Final = 500
FIRST_MS: Final = 20
INTERVAL_MS: Final = 20


def main() -> int:
    """Measure; exit status 1 when a floor is broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="default %(default)s")
    parser.add_argument("--seconds", type=float, default=4.0, help="of a measurement")
    parser.add_argument("--vs-litellm", action="store_true", help="also measure LiteLLM")
    parser.add_argument("--interpreted", action="store_true", help="the sources, not the wheel")
    parser.add_argument("--short", action="store_true", help="only what has a floor")
    parser.add_argument("--build-only", action="store_true", help="print where the wheel is")
    parser.add_argument("--no-nginx", action="store_true", help="only the gateway")
    parser.add_argument("--folder", type=Path, default=Path("build/bench"), help="work files")
    options = parser.parse_args()
    folder: Path = options.folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(folder / "audit", ignore_errors=True)
    if options.build_only:
        print(peers.wheel(folder))
        return 0
    cores = sorted(os.sched_getaffinity(0))
    own, other = (cores[0], cores[1]) if len(cores) > 1 else (None, None)
    if other is not None:
        pin(0, other)
    with ExitStack() as stack:
        engine = free_port()
        program = [sys.executable, "-m", "services.policy_gateway.bench.engine"]
        process = Running(
            [*program, str(engine), str(FIRST_MS), str(INTERVAL_MS)], other, folder / "engine.log"
        )
        stack.callback(process.stop)
        process.wait_for(engine)
        found: list[Peer] = []

        def keep(peer: Peer) -> None:
            if peer.process is not None:
                stack.callback(peer.process.stop)
            found.append(peer)

        source = peers.SOURCE if options.interpreted else peers.wheel(folder)
        gateway = peers.gateway(folder, free_port(), free_port(), engine, own, source)
        keep(gateway)
        if not options.no_nginx:
            nginx = peers.nginx_program(folder)
            keep(peers.nginx(folder, nginx, free_port(), engine, own))
            keep(peers.nginx(folder, nginx, free_port(), engine, own, auth=free_port()))
        if options.vs_litellm:
            keep(peers.litellm(folder, free_port(), engine, own))
        results = uvloop.run(
            _rounds(found, engine, options.rounds, options.seconds, top=not options.short)
        )
        if gateway.process is not None:
            gateway.process.stop()
    decisions = peers.audit_decisions(folder)
    values = report.figures(results, clients=CLIENTS, streams=STREAMS, decisions=decisions)
    values["compiled"] = len(list(source.glob("*__mypyc*.so")))
    print(report.table(results), f"the gateway ran with {peers.interpreter()}", sep="\n")
    broken = report.broken_floors(values)
    for problem in broken:
        print(f"floor broken: {problem}", file=sys.stderr)
    print(report.last_line(values))
    return 1 if broken else 0


async def _rounds(
    found: list[Peer], engine: int, rounds: int, seconds: float, *, top: bool
) -> list[Result]:
    results: list[Result] = []

    async def one(peer: Peer, clients: int, *, stream: bool) -> None:
        warm = 2.5 if stream else 0.5
        if peer.name == "litellm":
            warm = 2.0
        result = await measure(peer, engine, clients, stream=stream, seconds=seconds, warm=warm)
        results.append(result)
        await asyncio.sleep(0.2)

    for _ in range(rounds):
        for peer in found:
            await one(peer, CLIENTS, stream=False)
        for peer in found:
            # LiteLLM cannot carry so many streams on one core.
            if peer.name in ("gateway", "nginx"):
                await one(peer, STREAMS, stream=True)
    if top:
        await one(found[0], TOP, stream=True)
    return results


if __name__ == "__main__":
    sys.exit(main())
