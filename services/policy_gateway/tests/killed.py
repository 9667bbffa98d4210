"""The program under load, killed without warning: what its clients have, what its disk has."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from services.policy_gateway.tests.support import (
    CHAT_PATH,
    DONE,
    QUESTION,
    Client,
    Engine,
    stream_two,
)
from tresor_gateway.audit.verify import order


class Killed:
    """The program under load until it is killed; knows which answers were complete."""

    def __init__(self, folder: Path, token: str, values: dict[str, Any]) -> None:
        self._folder = folder
        self._config = folder / "gateway.yml"
        self._config.write_text(json.dumps(values))
        self._token = token
        self.complete: set[str] = set()
        self.streams = 0

    async def run(self, seconds: float, clients: int) -> None:
        """Serve that long under load, then die; ``seconds`` count from the first answer."""
        source = Path(sys.modules["tresor_gateway"].__file__ or "").parent.parent
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tresor_gateway",
            "--config",
            str(self._config),
            env={**os.environ, "PYTHONPATH": str(source)},
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(30):
            address = await _address(process)
        work = [asyncio.ensure_future(self._ask(address, number)) for number in range(clients)]
        before = len(self.complete)
        async with asyncio.timeout(30):
            while len(self.complete) == before:
                await asyncio.sleep(0.001)
        await asyncio.sleep(seconds)
        process.send_signal(signal.SIGKILL)
        await process.communicate()
        await asyncio.gather(*work)

    def records(self) -> dict[str, dict[str, Any]]:
        """The decisions on disk by request id, whatever stands at the end of a file."""
        found: dict[str, dict[str, Any]] = {}
        for path in order([self._folder / "audit"]):
            for line in path.read_bytes().split(b"\n")[:-1]:
                record = json.loads(line)
                if record["type"] == "decision":
                    found[record["request_id"]] = record
        return found

    async def _ask(self, address: str, number: int) -> None:
        """One question after the other on one connection, until it breaks."""
        client = await Client.open(address)
        stream = number % 2 == 0
        try:
            while True:
                client.request("POST", CHAT_PATH, self._token, {**QUESTION, "stream": stream})
                status, headers = await client.head()
                assert status == 200
                if stream:
                    # The end mark counts, whether the end of the body still comes or not.
                    while await client.chunk() != DONE:
                        pass
                    self.streams += 1
                    self.complete.add(headers["x-request-id"])
                    assert await client.chunk() == b""
                else:
                    await client.reader.readexactly(int(headers["content-length"]))
                    self.complete.add(headers["x-request-id"])
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            client.abort()


async def _address(process: asyncio.subprocess.Process) -> str:
    if process.stderr is None:
        raise RuntimeError("no log")
    while line := await process.stderr.readline():
        if b"listens at " in line:
            return line.decode().split("listens at ")[1].strip()
    raise RuntimeError("the gateway did not start")


async def answers(request: Any, writer: asyncio.StreamWriter) -> None:
    script = stream_two if request.body.get("stream") else Engine.script
    await script(request, writer)
