"""Rows between the client library and the text of a backup; vectors travel bit for bit."""

from __future__ import annotations

import base64
import json
import sys
from array import array
from collections.abc import Mapping
from typing import Any, Final

from tresor_vector.errors import BackupError

_BYTES_TYPES: Final = frozenset(
    {"BINARY_VECTOR", "FLOAT16_VECTOR", "BFLOAT16_VECTOR", "INT8_VECTOR"}
)
_PLAIN: Final = frozenset(
    {"BOOL", "INT8", "INT16", "INT32", "INT64", "FLOAT", "DOUBLE", "VARCHAR", "JSON", "ARRAY"}
)
SUPPORTED: Final = _PLAIN | _BYTES_TYPES | {"FLOAT_VECTOR", "SPARSE_FLOAT_VECTOR"}


def encode(row: Mapping[str, Any], types: Mapping[str, str]) -> str:
    """Return a row as one line of JSON; fields not in ``types`` are the dynamic ones."""
    return json.dumps(
        {name: _encode(value, types.get(name, "")) for name, value in row.items()},
        separators=(",", ":"),
        default=_plain,
    )


def decode(row: Mapping[str, Any], types: Mapping[str, str]) -> dict[str, Any]:
    """Return a row as the client library inserts it."""
    return {name: _decode(value, types.get(name, "")) for name, value in row.items()}


def _encode(value: Any, kind: str) -> Any:  # noqa: ANN401
    if value is None:
        return None
    if kind == "FLOAT_VECTOR":
        return base64.b64encode(_little(array("f", value)).tobytes()).decode()
    if kind in _BYTES_TYPES:
        content = value[0] if isinstance(value, list) and value else value
        if not isinstance(content, bytes):
            raise BackupError(f"a {kind} came as {type(content).__name__}, expected bytes")
        return base64.b64encode(content).decode()
    if kind == "SPARSE_FLOAT_VECTOR":
        return [[int(key), float(weight)] for key, weight in value.items()]
    return value


def _decode(value: Any, kind: str) -> Any:  # noqa: ANN401
    if value is None:
        return None
    if kind == "FLOAT_VECTOR":
        return _little(array("f", base64.b64decode(value))).tolist()
    if kind in _BYTES_TYPES:
        return base64.b64decode(value)
    if kind == "SPARSE_FLOAT_VECTOR":
        return {int(key): float(weight) for key, weight in value}
    return value


def _little(numbers: array[float]) -> array[float]:
    """Return the numbers in the byte order of backups, from or to that of this machine."""
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


def _plain(value: Any) -> Any:  # noqa: ANN401
    """Return what the JSON encoder does not know (numpy's numbers, protobuf's lists)."""
    if hasattr(value, "item"):
        return value.item()
    try:
        return list(value)
    except TypeError as error:
        raise BackupError(f"a value of type {type(value).__name__} cannot be backed up") from error
