"""Stand-alone: worker, portal and admin address in one process, to develop and to measure."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

from tresor_gateway import config_schema as schema
from tresor_gateway.metrics.registry import render
from tresor_gateway.process import portal
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
    page: portal.Portal | None = None
    ready = False

    def read_again() -> None:
        if reload(worker, path) and page is not None:
            portal.reload(page, path)

    loop.add_signal_handler(signal.SIGHUP, read_again)

    async def metrics() -> str:
        collected = [worker.metrics.registry.collect("0")]
        if page is not None:
            collected.append(page.metrics.registry.collect(portal.NAME))
        return render(collected)

    admin = AdminServer(metrics, lambda: ready)
    await worker.start()
    page = await portal.beside(config, worker)
    await admin.start(config.admin)
    if config.pid_file is not None:
        Path(config.pid_file).write_text(f"{os.getpid()}\n", encoding="ascii")
    ready = True
    notify("READY=1")
    await stop.wait()
    ready = False
    notify("STOPPING=1")
    if page is not None:
        await page.stop()
    await worker.stop()
    admin.close()
    if config.pid_file is not None:
        Path(config.pid_file).unlink(missing_ok=True)
