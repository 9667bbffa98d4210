"""Milvus Lite behind a Unix socket.

Its own command listens on TCP without TLS or users, where any local process could reach it. Here
it listens on a socket in a directory that only its own group enters. Two more things are added that
the server leaves out: writes go one after the other (its engine takes one writer a collection), and
they are refused while the space guard says so.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from concurrent import futures
from pathlib import Path
from typing import Any, Final, NoReturn

import grpc

from tresor_vector.host import notify, space

_BYTES: Final = 256 * 1024 * 1024
_GRACE: Final = 10.0
"""Seconds that running requests get once the server was asked to stop."""
_CLOSE: Final = 15.0
"""Seconds for closing the database: it writes what is in memory and waits for its own work."""
_GROWS: Final = ("Insert", "Upsert", "Create", "Import", "Restore", "Add", "Alter")
"""First words of the methods that need room. Deleting, dropping and flushing free it."""
_WRITES: Final = (*_GROWS, "Delete", "Drop", "Flush", "Rename", "Compact", "ManualComp")


def method_name(path: str) -> str:
    """Return ``Insert`` for ``/milvus.proto.milvus.MilvusService/Insert``."""
    return path.rpartition("/")[2]


class WriteGate(grpc.ServerInterceptor):  # type: ignore[misc] # the base has no types
    """Lets writes in one at a time, and those that need room only while there is room.

    Counts the requests that are in the engine, for an end that waits for them.
    """

    def __init__(self, folder: Path, message: Callable[[], str]) -> None:
        self._folder, self._message = folder, message
        self._lock = threading.Lock()
        self._changed = threading.Condition()
        self._running = 0

    def intercept_service(self, continuation: Any, details: Any) -> Any:  # noqa: ANN401
        """Wrap the handler of a method; the server's methods are all of one request, one answer."""
        name = method_name(details.method)
        handler = continuation(details)
        if handler is None or handler.unary_unary is None:
            return handler
        inner = handler.unary_unary

        def gated(request: Any, context: Any) -> Any:  # noqa: ANN401
            if not name.startswith(_WRITES):
                return inner(request, context)
            with self._lock:
                if name.startswith(_GROWS) and not (self._folder / space.OPEN).exists():
                    context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, self._message())
                return inner(request, context)

        def counted(request: Any, context: Any) -> Any:  # noqa: ANN401
            self._count(1)
            try:
                return gated(request, context)
            finally:
                self._count(-1)

        return grpc.unary_unary_rpc_method_handler(
            counted, handler.request_deserializer, handler.response_serializer
        )

    def _count(self, change: int) -> None:
        with self._changed:
            self._running += change
            self._changed.notify_all()

    def wait_idle(self, seconds: float) -> bool:
        """Wait until no request is running; return whether that came within ``seconds``."""
        with self._changed:
            return self._changed.wait_for(lambda: self._running == 0, seconds)


def serve(data: Path, listen: Path, guard_folder: Path, minimum_free: int, workers: int) -> None:
    """Run the server until SIGTERM; ``data`` must carry this version's stamp already."""
    # Only this environment has the server, the bastion's has not.
    from milvus_lite.adapter.grpc.servicer import MilvusServicer  # noqa: PLC0415
    from milvus_lite.db import MilvusLite  # noqa: PLC0415
    from pymilvus.grpc_gen import milvus_pb2_grpc  # noqa: PLC0415

    guard = space.SpaceGuard(data, minimum_free)
    gate = WriteGate(guard_folder, lambda: guard.message(guard.look()))
    database = MilvusLite(str(data / "db"))
    try:
        server = grpc.server(
            futures.ThreadPoolExecutor(max_workers=workers),
            options=[
                ("grpc.max_receive_message_length", _BYTES),
                ("grpc.max_send_message_length", _BYTES),
            ],
            interceptors=[gate],
        )
        milvus_pb2_grpc.add_MilvusServiceServicer_to_server(MilvusServicer(database), server)
        listen.unlink(missing_ok=True)
        server.add_insecure_port(f"unix:{listen}")
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        server.start()
        notify.ready(f"Milvus Lite listens on {listen}")
        stop.wait()
        # No new request from here on.
        server.stop(_GRACE)
        if not gate.wait_idle(_GRACE):
            _leave("requests were still running")
        if not ends(database.close, _CLOSE):
            _leave("closing the database took too long")
    except BaseException:
        database.close()
        raise
    _leave("")


def ends(work: Callable[[], None], seconds: float) -> bool:
    """Run ``work`` in a thread; return whether it ended within ``seconds``."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    return not thread.is_alive()


def _leave(why: str) -> NoReturn:
    """End the process now.

    A request in the engine cannot be cancelled, and Python would wait for its thread. Every row
    that was acknowledged is in the log on disk, which the next start replays.
    """
    if why:
        text = f"{why}; left without closing, the next start replays the log"
        print(text, file=sys.stderr, flush=True)
    os._exit(0)
