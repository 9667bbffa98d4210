"""Milvus Lite behind a Unix socket.

Its own command listens on TCP without TLS or users, where any local process could reach it. Here
it listens on a socket in a directory that only its own group enters. Two more things are added that
the server leaves out: writes go one after the other (its engine takes one writer a collection), and
they are refused while the space guard says so.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from concurrent import futures
from pathlib import Path
from typing import Any, Final

import grpc

from tresor_vector.host import notify, space

_BYTES: Final = 256 * 1024 * 1024
_STOP_SECONDS: Final = 10
_GROWS: Final = ("Insert", "Upsert", "Create", "Import", "Restore", "Add", "Alter")
"""First words of the methods that need room. Deleting, dropping and flushing free it."""
_WRITES: Final = (*_GROWS, "Delete", "Drop", "Flush", "Rename", "Compact", "ManualComp")


def method_name(path: str) -> str:
    """Return ``Insert`` for ``/milvus.proto.milvus.MilvusService/Insert``."""
    return path.rpartition("/")[2]


class WriteGate(grpc.ServerInterceptor):  # type: ignore[misc] # the base has no types
    """Lets writes in one at a time, and those that need room only while there is room."""

    def __init__(self, folder: Path, message: Callable[[], str]) -> None:
        self._folder, self._message = folder, message
        self._lock = threading.Lock()

    def intercept_service(self, continuation: Any, details: Any) -> Any:  # noqa: ANN401
        """Wrap the handler of a writing method; hand all others on."""
        name = method_name(details.method)
        handler = continuation(details)
        if handler is None or not name.startswith(_WRITES) or handler.unary_unary is None:
            return handler
        inner = handler.unary_unary

        def gated(request: Any, context: Any) -> Any:  # noqa: ANN401
            with self._lock:
                if name.startswith(_GROWS) and not (self._folder / space.OPEN).exists():
                    context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, self._message())
                return inner(request, context)

        return grpc.unary_unary_rpc_method_handler(
            gated, handler.request_deserializer, handler.response_serializer
        )


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
        server.stop(_STOP_SECONDS).wait()
    finally:
        database.close()
