"""A stand-alone gateway process with every endpoint, a token for it, and an engine."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from joserfc import jwk, jwt

from services.policy_gateway.bench.peers import AUDIENCE, ISSUER, SOURCE
from services.policy_gateway.bench.process import Running, free_port, rss_mib
from services.policy_gateway.fuzz.engine import Engine
from tresor_gateway.audit.verify import order, verify

_TOKEN_SECONDS: Final = 7200
ENDPOINTS: Final = ["models", "chat.completions", "completions", "messages", "responses"]


@dataclass(frozen=True)
class Site:
    """Where it is and what it needs to be asked."""

    folder: Path
    port: int
    token: str
    process: Running
    engine: Engine

    @property
    def url(self) -> str:
        """Where clients ask."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def rss_mib(self) -> float:
        """Resident memory of the gateway (MiB)."""
        return rss_mib(self.process.pid)

    def stop(self) -> dict[str, dict[str, Any]]:
        """End the gateway; all decisions in its audit log by request id.

        Raises:
            ChainError: the log is damaged.
        """
        self.process.stop()
        paths = order([self.folder / "audit"])
        verify(paths)
        lines = [json.loads(line) for path in paths for line in path.read_bytes().splitlines()]
        found = [record for record in lines if record["type"] == "decision"]
        decisions = {str(record["request_id"]): record for record in found}
        if len(decisions) != len(found):
            raise RuntimeError(f"{len(found) - len(decisions)} requests have several records")
        return decisions


@asynccontextmanager
async def stand_alone(folder: Path, **limits: Any) -> AsyncIterator[Site]:  # noqa: ANN401
    """A gateway that runs until the end of the block; ``limits`` change that section."""
    engine = await Engine.start()
    port = free_port()
    key = jwk.generate_key("RSA", 2048, {"kid": "fuzz", "use": "sig", "alg": "RS256"})
    jwks = folder / "jwks.json"
    jwks.write_text(json.dumps({"keys": [key.as_dict(private=False)]}), encoding="utf-8")
    replicas = [{"url": f"http://127.0.0.1:{engine.port}"}]
    config: dict[str, Any] = {
        "listen": {"tcp": f"127.0.0.1:{port}"},
        "admin": {"tcp": f"127.0.0.1:{free_port()}"},
        "identity": {"issuer": ISSUER, "audience": AUDIENCE, "jwks": {"file": str(jwks)}},
        "models": [
            {"name": "chat-model", "task": "chat", "replicas": replicas},
            {"name": "embedding-model", "task": "embedding", "replicas": replicas},
            {"name": "rerank-model", "task": "rerank", "replicas": replicas},
        ],
        "access": [
            {"group": "users", "models": ["chat-model"], "endpoints": ENDPOINTS},
            {"group": "users", "models": ["embedding-model"], "endpoints": ["embeddings"]},
            {"group": "users", "models": ["rerank-model"], "endpoints": ["rerank"]},
        ],
        "limits": limits,
        # An engine that failed is asked again at once: it fails only when it is told to.
        "upstream": {
            "probe_seconds": 0,
            "cooldown_seconds": 0.001,
            "cooldown_max_seconds": 0.001,
        },
        "audit": {"directory": str(folder / "audit"), "host": "fuzz"},
    }
    path = folder / "gateway.yml"
    path.write_text(json.dumps(config), encoding="utf-8")
    command = [sys.executable, "-m", "tresor_gateway", "--config", str(path)]
    process = Running(command, None, folder / "gateway.log", PYTHONPATH=str(SOURCE))
    try:
        await asyncio.to_thread(process.wait_for, port)
        yield Site(folder, port, _token(key), process, engine)
    finally:
        process.stop()
        await engine.stop()


def _token(key: Any) -> str:  # noqa: ANN401 - a key of joserfc
    now = int(time.time())
    claims: dict[str, Any] = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "fuzz",
        "iat": now,
        "exp": now + _TOKEN_SECONDS,
        "groups": ["users"],
    }
    return jwt.encode({"alg": "RS256", "typ": "at+jwt", "kid": "fuzz"}, claims, key)
