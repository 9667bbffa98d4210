"""Strict check of a safetensors file by its header and its last bytes; weights are not read.

The format: 8 bytes (header length, little endian), the header as JSON, the tensors without gaps.
A file that obeys every rule here has one meaning for every loader and holds no code.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from typing import BinaryIO

from .verdict import RefusalError

MAX_HEADER_BYTES = 100 * 1024 * 1024  # the limit of the reference implementation
MAX_TENSORS = 1_000_000
_MAX_DIMENSIONS = 16
_MAX_ELEMENTS = 2**48
_RULE = "models.safetensors"
_GET = "Get the file from its maker again, or convert it with the builder"
_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "F6_E2M3": 6, "F6_E3M2": 6, "F4": 4,
    "I16": 16, "U16": 16, "F16": 16, "BF16": 16,
    "I32": 32, "U32": 32, "F32": 32, "I64": 64, "U64": 64, "F64": 64, "C64": 64,
}  # fmt: skip
_TAIL = 66_000  # a zip's end record lies within the last 65557 bytes


def check(stream: BinaryIO, size: int, where: str) -> tuple[str, ...]:
    """Return the names of the tensors.

    Args:
        stream: the file, opened for reading.
        size: its length in bytes.
        where: named in refusals.

    Raises:
        RefusalError: rule ``models.safetensors``.
    """

    def wrong(seen: str) -> RefusalError:
        return RefusalError(_RULE, where, seen, _GET)

    if size < 10:
        raise wrong(f"{size} bytes are too few")
    start = stream.read(8)
    length = int.from_bytes(start, "little")
    if not 2 <= length <= min(MAX_HEADER_BYTES, size - 8):
        raise wrong(f"header of {length} bytes is not possible")
    if start[:4] == b"PK\3\4":
        raise wrong("begins like a zip")
    raw = stream.read(length)
    # Loaders pad the header with spaces up to a multiple of 8; nothing else may stand around it.
    raw = raw.rstrip(b" ")
    if raw[:1] != b"{" or raw[-1:] != b"}":
        raise wrong("header is cut off, or something stands before or after its braces")
    header = _parse(raw, where)
    spans: list[tuple[int, int]] = []
    for name, tensor in header.items():
        if name == "__metadata__":
            _metadata(tensor, where)
            continue
        try:
            spans.append(_span(tensor))
        except (KeyError, TypeError, ValueError) as error:
            raise wrong(f"tensor {name[:80]!r} is malformed: {error}") from error
    if len(spans) > MAX_TENSORS:
        raise wrong(f"{len(spans)} tensors, at most {MAX_TENSORS}")
    position = 0
    for begin, end in sorted(spans):
        if begin != position:
            raise wrong(f"{'gap' if begin > position else 'overlap'} at byte {position}")
        position = end
    if position != size - 8 - length:
        raise wrong(f"tensors end at byte {position}, the file at {size - 8 - length}")
    _no_zip_at_end(stream, size, where)
    return tuple(name for name in header if name != "__metadata__")


def _parse(raw: bytes, where: str) -> dict[str, object]:
    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        result = dict(pairs)
        if len(result) != len(pairs):
            raise ValueError("a name appears twice")
        return result

    def number(text: str) -> object:
        raise ValueError(f"{text} is not an integer")

    def integer(text: str) -> int:
        if len(text) > 20:
            raise ValueError("an integer is too long")
        return int(text)

    try:
        value = json.loads(
            raw.decode("utf-8"),
            object_pairs_hook=unique,
            parse_float=number,
            parse_constant=number,
            parse_int=integer,
        )
    except (ValueError, RecursionError) as error:
        raise RefusalError(_RULE, where, f"header is not strict JSON: {error}", _GET) from error
    if not isinstance(value, dict):
        raise RefusalError(_RULE, where, "header is not an object", _GET)
    return value


def _metadata(value: object, where: str) -> None:
    if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
        raise RefusalError(_RULE, where, "__metadata__ is not a table of texts", _GET)


def _span(tensor: object) -> tuple[int, int]:
    if not isinstance(tensor, dict) or set(tensor) != {"dtype", "shape", "data_offsets"}:
        raise ValueError("keys are not dtype, shape, data_offsets")
    begin, end = tensor["data_offsets"]
    shape = tensor["shape"]
    if not isinstance(shape, list) or len(shape) > _MAX_DIMENSIONS:
        raise ValueError("shape")
    for value in (begin, end, *shape):
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise ValueError("a length or offset is not an integer of at least 0")
    count = 1
    for dimension in shape:
        count *= dimension
        if count > _MAX_ELEMENTS:
            raise ValueError("too many elements")
    if end < begin or (end - begin) * 8 != count * _BITS[tensor["dtype"]]:
        raise ValueError(f"{end - begin} bytes do not fit {tensor['dtype']} {shape}")
    return begin, end


def _no_zip_at_end(stream: BinaryIO, size: int, where: str) -> None:
    """Refuse a file that is also a zip: loaders of other formats would take it as theirs."""
    length = min(size, _TAIL)
    stream.seek(size - length)
    tail = stream.read(length)
    for match in _find_all(tail, b"PK\5\6"):
        record = tail[match : match + 22]
        if len(record) == 22 and int.from_bytes(record[20:22], "little") == length - match - 22:
            directory = int.from_bytes(record[12:16], "little")
            first = tail[max(match - directory, 0) : match][:4]
            if first in (b"PK\1\2", b"") or directory > match or stream.tell() != size:
                raise RefusalError(_RULE, where, "is also a zip archive", _GET)


def _find_all(data: bytes, mark: bytes) -> Iterator[int]:
    return (match.start() for match in re.finditer(re.escape(mark), data))


def size_of(stream: BinaryIO) -> int:
    """Return the length of a file and rewind it."""
    size = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    return size
