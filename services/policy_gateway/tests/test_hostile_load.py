"""The gateway's process under hostile load; make fuzz-gateway does the same with 10,000 clients."""

from __future__ import annotations

import resource
from functools import partial
from pathlib import Path

import pytest

from services.policy_gateway.fuzz import load
from services.policy_gateway.fuzz.site import Site

pytestmark = pytest.mark.asyncio


async def test_others_are_served_beside_hostile_clients_and_engines(tmp_path: Path) -> None:
    count = min(1000, load.allow_files(4000) - 512)
    problems = await load.run(
        tmp_path,
        [
            partial(load.many_connections, count=count),
            partial(load.slow_loris, count=100),
            partial(load.leaving_clients, count=20),
            load.bad_engines,
        ],
        max_concurrent_requests=64,
    )
    assert problems == []


async def test_connections_beyond_the_limit_are_closed(tmp_path: Path) -> None:
    case = partial(load.more_connections_than_allowed, limit=20)
    assert await load.run(tmp_path, [case], max_connections=20) == []


async def test_process_raises_its_own_limit_of_open_files(tmp_path: Path) -> None:
    async def look(site: Site) -> list[str]:
        limits = Path(f"/proc/{site.process.pid}/limits").read_text()
        [line] = [line for line in limits.splitlines() if line.startswith("Max open files")]
        assert int(line.split()[3]) >= min(2000, int(line.split()[4]))
        return []

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 512), hard))
    try:
        assert await load.run(tmp_path, [look], max_connections=2000) == []
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
