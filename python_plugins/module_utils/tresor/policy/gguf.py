"""Check of a GGUF file by its header; for sites whose rules allow the format.

The format: magic, version, counts, key/value pairs, tensor table, padding, tensors (little endian).
"""

from __future__ import annotations

import struct
from typing import BinaryIO

from .verdict import RefusalError

_RULE = "models.gguf"
_GET = "Get the file from its maker again"
_MAX_PAIRS = 100_000
_MAX_TENSORS = 1_000_000
_MAX_ITEMS = 4_000_000
_MAX_TEXT = 4 * 1024 * 1024
_MAX_KEY = 65_535
# Value types: fixed widths in bytes; 8 is text, 9 an array.
_WIDTH = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
# Quantisation types: (elements per block, bytes per block).
_BLOCKS = {
    0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34),
    9: (32, 36), 10: (256, 84), 11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210),
    15: (256, 292), 16: (256, 66), 17: (256, 74), 18: (256, 98), 19: (256, 50), 20: (32, 18),
    21: (256, 110), 22: (256, 82), 23: (256, 136), 24: (1, 1), 25: (1, 2), 26: (1, 4), 27: (1, 8),
    28: (1, 8), 29: (256, 56), 30: (1, 2), 34: (256, 54), 35: (256, 66), 39: (32, 17),
}  # fmt: skip


class _Reader:
    def __init__(self, stream: BinaryIO, size: int, where: str) -> None:
        self.stream = stream
        self.size = size
        self.where = where

    def wrong(self, seen: str) -> RefusalError:
        return RefusalError(_RULE, self.where, seen, _GET)

    def take(self, count: int) -> bytes:
        raw = self.stream.read(count) if count <= self.size else b""
        if len(raw) != count:
            raise self.wrong("header is cut off")
        return raw

    def number(self, form: str) -> int:
        (value,) = struct.unpack(form, self.take(struct.calcsize(form)))
        return int(value)

    def text(self, limit: int) -> str:
        length = self.number("<Q")
        if length > limit:
            raise self.wrong(f"a text of {length} bytes, at most {limit}")
        try:
            return self.take(length).decode("utf-8")
        except UnicodeDecodeError as error:
            raise self.wrong("a text is not UTF-8") from error

    def value(self, kind: int) -> str | int | None:
        """Return a text or an unsigned 32-bit number; skip everything else."""
        if kind == 8:
            return self.text(_MAX_TEXT)
        if kind == 9:
            inner, count = self.number("<I"), self.number("<Q")
            if count > _MAX_ITEMS or inner == 9 or (inner != 8 and inner not in _WIDTH):
                raise self.wrong(f"an array of {count} items of type {inner}")
            if inner == 8:
                for _ in range(count):
                    self.text(_MAX_TEXT)
            else:
                self.take(count * _WIDTH[inner])
            return None
        if kind not in _WIDTH:
            raise self.wrong(f"value type {kind} is unknown")
        raw = self.take(_WIDTH[kind])
        return int.from_bytes(raw, "little") if kind == 4 else None


def check(stream: BinaryIO, size: int, where: str) -> list[str]:
    """Return the chat templates that the file carries.

    Raises:
        RefusalError: rule ``models.gguf``: malformed, tensors that overlap or leave gaps, a tail.
    """
    reader = _Reader(stream, size, where)
    if reader.take(4) != b"GGUF" or reader.number("<I") not in (2, 3):
        raise reader.wrong("is not GGUF of version 2 or 3")
    tensors, pairs = reader.number("<Q"), reader.number("<Q")
    if tensors > _MAX_TENSORS or pairs > _MAX_PAIRS:
        raise reader.wrong(f"{tensors} tensors and {pairs} pairs")
    templates: list[str] = []
    keys: set[str] = set()
    alignment = 32
    for _ in range(pairs):
        key = reader.text(_MAX_KEY)
        if key in keys:
            raise reader.wrong(f"key {key[:80]!r} appears twice")
        keys.add(key)
        value = reader.value(reader.number("<I"))
        if key.startswith("tokenizer.chat_template") and isinstance(value, str):
            templates.append(value)
        if key == "general.alignment" and isinstance(value, int):
            alignment = value
    if alignment < 8 or alignment % 8 or alignment > 65_536:
        raise reader.wrong(f"alignment {alignment}")
    _tensors(reader, tensors, alignment)
    return templates


def _tensors(reader: _Reader, count: int, alignment: int) -> None:
    spans = []
    names: set[str] = set()
    for _ in range(count):
        name = reader.text(_MAX_KEY)
        dimensions = reader.number("<I")
        if name in names or dimensions > 8:
            raise reader.wrong(f"tensor {name[:80]!r} twice or of {dimensions} dimensions")
        names.add(name)
        elements = 1
        for _ in range(dimensions):
            elements *= reader.number("<Q")
        kind, offset = reader.number("<I"), reader.number("<Q")
        if kind not in _BLOCKS or elements > 2**48 or elements % _BLOCKS[kind][0]:
            raise reader.wrong(f"tensor {name[:80]!r}: type {kind}, {elements} elements")
        spans.append((offset, elements // _BLOCKS[kind][0] * _BLOCKS[kind][1]))
    start = -(-reader.stream.tell() // alignment) * alignment
    position = 0
    for offset, length in sorted(spans):
        if offset != -(-position // alignment) * alignment:
            raise reader.wrong(f"gap or overlap at byte {offset}")
        position = offset + length
    tail = reader.size - start - position
    if not 0 <= tail < alignment:
        raise reader.wrong(f"{tail} bytes after the last tensor")
