"""Ask the server how it is, with as little as possible: no client library, no password."""

from __future__ import annotations

import re
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tresor_vector.errors import VectorError

_SERVICE: Final = "/milvus.proto.milvus.MilvusService/"
_NAMES_FIELD: Final = 2
_LENGTH_DELIMITED: Final = 2
_COLLECTIONS: Final = re.compile(r"^milvus_rootcoord_collection_num(?:\{[^}]*\})? (\S+)$", re.M)


@dataclass(frozen=True)
class Health:
    """One probe: whether the server answered, how long it took, how many collections it has."""

    up: bool
    seconds: float
    collections: int = 0


def of_lite(socket: Path, timeout: float) -> Health:
    """Ask Milvus Lite for its collections over its Unix socket; ``timeout`` in seconds."""
    import grpc  # noqa: PLC0415 # the real server's watch does not need it

    def same(content: bytes) -> bytes:
        return content

    began = time.monotonic()
    try:
        with grpc.insecure_channel(f"unix:{socket}") as channel:
            call = channel.unary_unary(
                f"{_SERVICE}ShowCollections", request_serializer=same, response_deserializer=same
            )
            answer: bytes = call(b"", timeout=timeout)
        count = sum(1 for field, _ in fields(answer) if field == _NAMES_FIELD)
    except (grpc.RpcError, VectorError):
        return Health(False, time.monotonic() - began)
    return Health(True, time.monotonic() - began, count)


def of_server(management: str, timeout: float) -> Health:
    """Ask the real server's management port, such as http://127.0.0.1:9091."""
    began = time.monotonic()
    try:
        healthy = fetch(f"{management}/healthz", timeout).strip().startswith("OK")
        found = _COLLECTIONS.findall(fetch(f"{management}/metrics", timeout))
    except OSError:
        return Health(False, time.monotonic() - began)
    count = sum(int(float(value)) for value in found)
    return Health(healthy, time.monotonic() - began, count)


def fetch(url: str, timeout: float) -> str:
    """Return a page of the management port as text; raises OSError."""
    with urllib.request.urlopen(url, timeout=timeout) as page:  # noqa: S310 # always our own http
        content: bytes = page.read(16 * 1024 * 1024)
    return content.decode(errors="replace")


def fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield number and content of the length-delimited fields of a protobuf message.

    Raises:
        VectorError: not a protobuf message.
    """
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        kind = key & 7
        if kind == _LENGTH_DELIMITED:
            size, at = _varint(message, at)
            yield key >> 3, message[at : at + size]
            at += size
        elif kind == 0:
            _, at = _varint(message, at)
        elif kind in {1, 5}:
            at += 8 if kind == 1 else 4
        else:
            raise VectorError(f"protobuf: wire type {kind} at byte {at}")
    if at != len(message):
        raise VectorError(f"protobuf: {len(message)} bytes, a field ends at {at}")


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(message) and shift < 64:
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if not byte & 0x80:
            return value, at
    raise VectorError(f"protobuf: broken number at byte {at}")
