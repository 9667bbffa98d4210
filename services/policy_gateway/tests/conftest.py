"""Fixtures of the gateway's tests; the loop is the one of production (uvloop)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import uvloop

from services.policy_gateway.tests.support import Engine, Issuer, Site, settings


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(scope="session")
def issuer() -> Issuer:
    return Issuer()


@pytest_asyncio.fixture
async def engines() -> AsyncIterator[list[Engine]]:
    """Two engines that run."""
    running = [await Engine().start(), await Engine().start()]
    yield running
    for engine in running:
        await engine.stop()


MakeSite = Callable[..., Awaitable[Site]]


@pytest_asyncio.fixture
async def make_site(
    tmp_path: Path, issuer: Issuer, engines: list[Engine]
) -> AsyncIterator[MakeSite]:
    """Starts a gateway; keyword arguments change top-level keys of its configuration."""
    started: list[Site] = []

    async def make(replicas: list[str] | None = None, **changes: Any) -> Site:
        jwks = tmp_path / "jwks.json"
        if not jwks.exists():
            jwks.write_bytes(issuer.jwks(issuer.key))
        values = settings(tmp_path, replicas or [engine.url for engine in engines])
        for key, value in changes.items():
            values[key] = {**values.get(key, {}), **value} if isinstance(value, dict) else value
        site = await Site(tmp_path, issuer, values).start()
        started.append(site)
        return site

    yield make
    for site in started:
        await site.stop()


@pytest_asyncio.fixture
async def site(make_site: MakeSite) -> Site:
    return await make_site()
