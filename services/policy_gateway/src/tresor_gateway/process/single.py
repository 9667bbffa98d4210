"""Stand-alone: one worker and its admin address in one process, for development and measuring."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

from tresor_gateway import config_schema as schema
from tresor_gateway.metrics.registry import render
from tresor_gateway.process.admin import AdminServer
from tresor_gateway.process.notify import notify
from tresor_gateway.process.reload import reload
from tresor_gateway.process.worker import Worker


async def run(config: schema.Config, path: Path) -> None:
    """Serve until SIGTERM or SIGINT; SIGHUP reads the file ``path`` again.

    Raises:
        GatewayError: it cannot start.
    """
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    worker = Worker(config, 0)
    loop.add_signal_handler(signal.SIGHUP, reload, worker, path)
    ready = False

    async def metrics() -> str:
        return render([worker.metrics.registry.collect("0")])

    admin = AdminServer(metrics, lambda: ready)
    await worker.start()
    await admin.start(config.admin)
    if config.pid_file is not None:
        Path(config.pid_file).write_text(f"{os.getpid()}\n", encoding="ascii")
    ready = True
    notify("READY=1")
    await stop.wait()
    ready = False
    notify("STOPPING=1")
    await worker.stop()
    admin.close()
    if config.pid_file is not None:
        Path(config.pid_file).unlink(missing_ok=True)
