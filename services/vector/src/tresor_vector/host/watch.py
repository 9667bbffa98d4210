"""The watch beside the server: guards the space, probes the server, serves metrics.

Listening sockets come from the service manager, so that the watch itself can live in the server's
private network, where its management port is.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

from tresor_vector.errors import VectorError
from tresor_vector.host import configuration, health, notify, space

_FIRST_FD: Final = 3
_PROBE_TIMEOUT: Final = 5.0
_SIZE_EVERY: Final = 30.0


@dataclass(frozen=True)
class Settings:
    """Where things are; times in seconds, sizes in bytes."""

    data: Path
    guard_folder: Path
    minimum_free: int
    every: float
    lite_socket: Path | None = None
    management: str | None = None
    base: Path | None = None
    effective: Path | None = None


@dataclass
class State:
    """What the last round saw; replaced as a whole, read by the metrics page."""

    health: health.Health = field(default_factory=lambda: health.Health(False, 0.0))
    space: space.Space = field(default_factory=lambda: space.Space(0, True))
    data_bytes: int = 0


def data_bytes(folder: Path) -> int:
    """Return what the files below ``folder`` take; files may vanish meanwhile."""
    total = 0
    for path, _, names in os.walk(folder):
        for name in names:
            try:
                total += (Path(path) / name).lstat().st_blocks * 512
            except OSError:
                continue
    return total


def metrics(state: State) -> str:
    """Return the metrics page."""
    rows: list[tuple[str, str, float]] = [
        ("milvus_up", "1 while the server answers a request.", float(state.health.up)),
        ("milvus_probe_seconds", "How long that request took.", state.health.seconds),
        ("milvus_collections", "Collections the server has.", state.health.collections),
        ("milvus_data_bytes", "Disk taken by the server's data.", state.data_bytes),
        ("milvus_free_bytes", "Disk left for the server's data.", state.space.free),
        (
            "milvus_writes_blocked",
            "1 while the space guard refuses writes.",
            float(state.space.blocked),
        ),
    ]
    return "".join(
        f"# HELP tresor_{name} {text}\n# TYPE tresor_{name} gauge\ntresor_{name} {value:.10g}\n"
        for name, text, value in rows
    )


class Watch:
    """One loop that looks, decides and remembers."""

    def __init__(self, settings: Settings, guard: space.SpaceGuard | None = None) -> None:
        self._settings = settings
        self._guard = guard or space.SpaceGuard(settings.data, settings.minimum_free)
        self._said_blocked: bool | None = None
        self._size_due = 0.0
        self.state = State()

    def round(self, now: float) -> None:
        """Look once at everything."""
        seen = self._guard.look()
        self._apply(seen)
        size = self.state.data_bytes
        if now >= self._size_due:
            size, self._size_due = data_bytes(self._settings.data), now + _SIZE_EVERY
        self.state = State(self._probe(), seen, size)

    def _apply(self, seen: space.Space) -> None:
        self._set(is_open=not seen.blocked)
        if self._said_blocked in (None, False) and seen.blocked:
            print(self._guard.message(seen), file=sys.stderr, flush=True)
        elif self._said_blocked and not seen.blocked:
            text = f"vector database takes writes again: {seen.free} bytes are free for its data"
            print(text, file=sys.stderr, flush=True)
        self._said_blocked = seen.blocked

    def shut(self) -> None:
        """Let no write in any more: nobody looks at the space from here on."""
        self._set(is_open=False)

    def _set(self, *, is_open: bool) -> None:
        settings = self._settings
        space.set_open(settings.guard_folder, is_open=is_open)
        if settings.base and settings.effective:
            configuration.write(settings.base, settings.effective, is_open=is_open)

    def _probe(self) -> health.Health:
        if self._settings.lite_socket:
            return health.of_lite(self._settings.lite_socket, _PROBE_TIMEOUT)
        return health.of_server(self._settings.management or "", _PROBE_TIMEOUT)


def handed_sockets() -> dict[str, socket.socket]:
    """Return the listening sockets that the service manager handed over, by name."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        raise VectorError("the watch was started without its sockets; start its socket units")
    names = os.environ.get("LISTEN_FDNAMES", "").split(":")
    count = int(os.environ.get("LISTEN_FDS", "0"))
    return {names[i]: socket.socket(fileno=_FIRST_FD + i) for i in range(count)}


def serve_page(listener: socket.socket, pages: dict[str, Callable[[], str]]) -> threading.Thread:
    """Answer GET for exactly ``pages`` on ``listener``, in threads that end with the process."""

    class Handler(BaseHTTPRequestHandler):
        timeout = 10
        server_version, sys_version = "tresor-milvus", ""

        def do_GET(self) -> None:  # the base class looks it up by this name
            page = pages.get(self.path)
            if page is None:
                self.send_error(404)
                return
            try:
                content = page().encode()
            except OSError as error:
                self.send_error(502, explain=str(error))
                return
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:  # noqa: ANN401
            """Say nothing for each scrape."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler, bind_and_activate=False)
    server.daemon_threads = True
    server.socket.close()
    server.socket = listener
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    return thread


def run(settings: Settings) -> None:
    """Watch until the process is ended."""
    watch = Watch(settings)
    sockets = handed_sockets()
    watch.round(time.monotonic())
    serve_page(sockets["metrics"], {"/metrics": lambda: metrics(watch.state)})
    if settings.management and "server" in sockets:
        # Of the server's own management port only these two pages are passed on.
        address = settings.management
        serve_page(
            sockets["server"],
            {
                "/metrics": lambda: health.fetch(f"{address}/metrics", _PROBE_TIMEOUT),
                "/healthz": lambda: health.fetch(f"{address}/healthz", _PROBE_TIMEOUT),
            },
        )
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    notify.ready("watching")
    while not stop.wait(settings.every):
        watch.round(time.monotonic())
    watch.shut()
