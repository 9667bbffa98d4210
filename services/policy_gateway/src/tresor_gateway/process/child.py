"""What a worker process runs: serve, answer the supervisor, stop when told or left alone."""

from __future__ import annotations

import asyncio
import signal
import socket
from pathlib import Path

from tresor_gateway import config_schema as schema
from tresor_gateway.process import memory
from tresor_gateway.process.channel import Channel
from tresor_gateway.process.reload import reload
from tresor_gateway.process.worker import Worker


async def run(
    config: schema.Config, path: Path, number: int, descriptor: int, listener: int | None = None
) -> None:
    """Serve as worker ``number``, which reads ``path`` again when it is told to.

    ``descriptor`` is our end of the supervisor's channel, ``listener`` a socket on which clients
    wait already.

    Raises:
        GatewayError: it cannot start.
    """
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    # Ctrl-C reaches the whole group; the supervisor decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    channel = await Channel.open(socket.socket(fileno=descriptor))
    try:
        await _serve(Worker(config, number, listener), path, channel, stop)
    finally:
        await channel.close()


async def _serve(worker: Worker, path: Path, channel: Channel, stop: asyncio.Event) -> None:
    await worker.start()
    memory.settle()
    channel.send({"event": "ready", "address": worker.address})

    async def listen() -> None:
        while (message := await channel.receive()) is not None:
            if message.get("ask") == "metrics":
                families = worker.metrics.registry.collect(str(worker.number))
                channel.send({"event": "metrics", "families": families})
            elif message.get("ask") == "reload":
                reload(worker, path)
        # The supervisor is gone: nobody would restart or stop us.
        stop.set()

    listener = asyncio.get_running_loop().create_task(listen())
    await stop.wait()
    await worker.stop()
    listener.cancel()
