"""The portal as a process of its own beside the workers."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import pytest_asyncio

from services.policy_gateway.tests.browser import CLIENT_ID, Provider
from services.policy_gateway.tests.support import Client, Issuer, Response, settings
from services.policy_gateway.tests.test_process import Authority, Service
from tresor_gateway.audit.verify import verify

pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture
async def service(tmp_path: Path, issuer: Issuer) -> AsyncIterator[Service]:
    (tmp_path / "jwks.json").write_bytes(issuer.jwks(issuer.key))
    for name in ("pseudonym", "salt"):
        (tmp_path / name).write_bytes(b"p" * 32)
    authority = Authority(tmp_path, "site")
    cert, key = authority.issue("gateway", "127.0.0.1")
    values = settings(tmp_path, ["https://127.0.0.1:9"])
    values |= {
        "listen": {"sockets": str(tmp_path)},
        "admin": {"socket": str(tmp_path / "admin.sock")},
        "keys": {
            "pseudonym_file": str(tmp_path / "pseudonym"),
            "cache_salt_file": str(tmp_path / "salt"),
        },
        "upstream": {
            "ca_file": str(authority.ca),
            "cert_file": str(cert),
            "key_file": str(key),
            "probe_seconds": 0,
        },
        "workers": 2,
        "pid_file": str(tmp_path / "gateway.pid"),
        "usage": {"file": str(tmp_path / "usage")},
        "portal": {
            "url": "https://llm.example.com",
            "socket": str(tmp_path / "portal.sock"),
            "client_id": CLIENT_ID,
            "authorization_endpoint": "https://idp.example.com/auth",
            "token_endpoint": "https://idp.example.com/token",
            "ca_file": str(authority.ca),
        },
    }
    values["identity"]["revocations"] = {"file": str(tmp_path / "revocations")}
    running = Service(tmp_path, values)
    await running.start()
    yield running
    await running.stop()
    running.close()


async def page(service: Service, method: str, target: str, **form: str) -> Response:
    client = await Client.open(str(service.folder / "portal.sock"))
    body = urlencode(form).encode()
    headers = {
        "Content-Type": "application/x-www-form-urlencoded",
        "Content-Length": str(len(body)),
        "X-Request-Id": "nginx-12345678",
    }
    client.request(method, target, headers=headers)
    client.send(body)
    response = await client.response()
    await client.close()
    return response


async def models(service: Service, token: str) -> list[int]:
    return [(await service.ask("/v1/models", token, worker))[0] for worker in (0, 1)]


async def test_logout_reaches_every_worker_and_outlives_them(
    service: Service, issuer: Issuer
) -> None:
    token, other = issuer.token(sid="sid-alice"), issuer.token(sid="sid-bob")
    assert await models(service, token) == [200, 200]
    told = Provider(issuer).logout_token()
    assert (await page(service, "POST", "/backchannel-logout", logout_token=told)).status == 200
    assert await models(service, token) == [401, 401]
    assert await models(service, other) == [200, 200]
    before = service.pids
    assert len(before) == 2
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    async with asyncio.timeout(30):
        while True:
            try:
                assert await models(service, token) == [401, 401]
            except OSError:
                await asyncio.sleep(0.05)
                continue
            break
    assert await service.stop() == 0
    assert verify([service.folder / "audit"]).complete
    lines = (service.folder / "audit" / "gw1-portal").glob("*.jsonl")
    records: list[dict[str, Any]] = [
        json.loads(line) for path in lines for line in path.read_bytes().splitlines()
    ]
    [decision] = [record for record in records if record["type"] == "decision"]
    assert decision["request_id"] == "nginx-12345678"
    assert decision["endpoint"] == "portal.backchannel-logout"


async def test_portal_that_dies_takes_nobody_along(service: Service, issuer: Issuer) -> None:
    assert (await page(service, "GET", "/")).status == 401
    _, metrics = await service.admin("/metrics")
    assert b'tresor_gateway_worker_up{worker="portal"} 1' in metrics
    assert b'tresor_gateway_portal_sessions{worker="portal"} 0' in metrics
    assert (service.folder / "portal.sock").stat().st_mode & 0o777 == 0o660
    children = Path(f"/proc/{service.process.pid}/task/{service.process.pid}/children")
    [portal] = {int(pid) for pid in children.read_text().split()} - set(service.pids)
    os.kill(portal, signal.SIGKILL)
    assert await models(service, issuer.token()) == [200, 200]
    async with asyncio.timeout(30):
        while True:
            try:
                assert (await page(service, "GET", "/")).status == 401
            except OSError:
                await asyncio.sleep(0.05)
                continue
            break
    assert await models(service, issuer.token()) == [200, 200]


async def test_browser_that_comes_during_a_restart_waits_and_is_served(service: Service) -> None:
    assert await service.stop() == 0
    kept = await service.kept()
    assert sorted(kept) == ["portal", "worker-0", "worker-1"]
    client = await Client.open(str(service.folder / "portal.sock"))
    client.request("GET", "/", headers={"X-Request-Id": "nginx-12345678"})
    await service.start(kept)
    for descriptor in kept.values():
        os.close(descriptor)
    async with asyncio.timeout(30):
        assert (await client.response()).status == 401
    await client.close()
    assert (await page(service, "GET", "/")).status == 401
