"""Reading the headers of safetensors files, as if an enemy had written them.

Format: 8 bytes little-endian header length, a JSON object, then the tensors without gaps.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ModelError, shown

# The format's own reference implementation refuses headers above 100 MB.
MAX_HEADER_BYTES = 100_000_000
MAX_INDEX_BYTES = 64 * 1024 * 1024
MAX_SHARDS = 10_000
MAX_TENSORS = 1_000_000
_DTYPE_BITS: Mapping[str, int] = {
    "F64": 64,
    "I64": 64,
    "U64": 64,
    "F32": 32,
    "I32": 32,
    "U32": 32,
    "F16": 16,
    "BF16": 16,
    "I16": 16,
    "U16": 16,
    "F8_E4M3": 8,
    "F8_E5M2": 8,
    "F8_E8M0": 8,
    "I8": 8,
    "U8": 8,
    "BOOL": 8,
    "F4": 4,
}


@dataclass(frozen=True)
class Tensor:
    """A tensor of a checkpoint: name, dtype as the header has it, shape and bytes."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    size: int

    @property
    def elements(self) -> int:
        """How many elements the tensor has."""
        return math.prod(self.shape)


def load_json(path: Path, limit: int) -> object:
    """Read a JSON file of at most `limit` bytes; raise `ModelError` if it is none."""
    try:
        size = path.stat().st_size
        if size > limit:
            raise ModelError(f"{path}: {size} bytes, more than the {limit} allowed")
        return _parse(path.read_bytes(), str(path))
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}") from error


def _parse(raw: bytes, where: str) -> object:
    try:
        return json.loads(raw, object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{where}: not valid JSON: {str(error)[:120]}") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key occurs twice")
    return result


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is not allowed")


def shards(directory: Path) -> list[Path]:
    """Return the safetensors files of a model directory.

    With an index, exactly the files it names, all of which must exist; without one, all files.
    """
    index = directory / "model.safetensors.index.json"
    if not index.is_file():
        found = sorted(directory.glob("*.safetensors"))
        if len(found) > MAX_SHARDS:
            raise ModelError(f"{directory}: {len(found)} safetensors files; at most {MAX_SHARDS}")
        return found
    data = load_json(index, MAX_INDEX_BYTES)
    weight_map = data.get("weight_map") if isinstance(data, dict) else None
    if not isinstance(weight_map, dict) or not weight_map:
        raise ModelError(f"{index}: has no weight_map; copy the checkpoint again")
    names: set[str] = set()
    for tensor, name in weight_map.items():
        if (
            not isinstance(name, str)
            or Path(name).name != name
            or not name.endswith(".safetensors")
        ):
            raise ModelError(
                f"{index}: tensor {shown(tensor)} lies in {shown(name)}; "
                "expected the name of a .safetensors file of this directory"
            )
        names.add(name)
    if len(names) > MAX_SHARDS:
        raise ModelError(f"{index}: names {len(names)} files; at most {MAX_SHARDS}")
    for name in sorted(names):
        if not (directory / name).is_file():
            raise ModelError(
                f"{index}: names the shard {name}, which is missing; copy it into {directory}"
            )
    return [directory / name for name in sorted(names)]


def read_header(path: Path) -> list[Tensor]:
    """Return the tensors of one file; raise `ModelError` for a header that lies.

    Checked: length against limit and file, JSON, dtypes, shapes, that sizes equal shape times
    dtype, and that the tensors fill the file without gap or overlap.
    """
    try:
        total = path.stat().st_size
        with path.open("rb") as stream:
            prefix = stream.read(8)
            if len(prefix) < 8:
                raise ModelError(f"{path}: {total} bytes, too short to be a safetensors file")
            length = int.from_bytes(prefix, "little")
            if length > MAX_HEADER_BYTES:
                raise ModelError(
                    f"{path}: says its header has {length} bytes; at most {MAX_HEADER_BYTES}"
                )
            if length > total - 8:
                raise ModelError(
                    f"{path}: says its header has {length} bytes but the file has {total}; "
                    "it is truncated, copy it again"
                )
            raw = stream.read(length)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}") from error
    header = _parse(raw, str(path))
    if not isinstance(header, dict):
        raise ModelError(f"{path}: its header is not a JSON object")
    header.pop("__metadata__", None)
    if len(header) > MAX_TENSORS:
        raise ModelError(f"{path}: has {len(header)} tensors; at most {MAX_TENSORS}")
    found: list[tuple[int, int, Tensor]] = []
    for name, entry in header.items():
        found.append(_tensor(path, name, entry))
    _check_offsets(path, found, total - 8 - length)
    return [tensor for _, _, tensor in found]


def _tensor(path: Path, name: str, entry: object) -> tuple[int, int, Tensor]:
    where = f"{path}: tensor {shown(name)}"
    if not isinstance(entry, dict):
        raise ModelError(f"{where} is {shown(entry)}; expected an object")
    dtype = entry.get("dtype")
    if not isinstance(dtype, str) or dtype not in _DTYPE_BITS:
        raise ModelError(f"{where} has dtype {shown(dtype)}, which is not known")
    shape, offsets = _numbers(entry.get("shape")), _numbers(entry.get("data_offsets"))
    if shape is None or len(shape) > 16:
        raise ModelError(f"{where} has shape {shown(entry.get('shape'))}; expected whole numbers")
    if offsets is None or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise ModelError(
            f"{where} has data_offsets {shown(entry.get('data_offsets'))}; expected [begin, end]"
        )
    tensor = Tensor(name, dtype, shape, offsets[1] - offsets[0])
    if tensor.elements * _DTYPE_BITS[dtype] != tensor.size * 8:
        raise ModelError(f"{where} has shape {shown(shape)}, dtype {dtype} and {tensor.size} bytes")
    return offsets[0], offsets[1], tensor


def _numbers(value: object) -> tuple[int, ...] | None:
    if not isinstance(value, list):
        return None
    found: list[int] = []
    for item in value:
        if isinstance(item, bool) or not isinstance(item, int) or not 0 <= item < 1 << 62:
            return None
        found.append(item)
    return tuple(found)


def _check_offsets(path: Path, found: list[tuple[int, int, Tensor]], data_bytes: int) -> None:
    expected = 0
    for begin, end, tensor in sorted(found, key=lambda item: item[:2]):
        if begin != expected:
            what = "overlaps the one before it" if begin < expected else "leaves a gap before it"
            raise ModelError(f"{path}: tensor {shown(tensor.name)} {what}, at byte {begin}")
        expected = end
    if expected != data_bytes:
        raise ModelError(
            f"{path}: its tensors need {expected} bytes but {data_bytes} are there; "
            "it is truncated or has been added to, copy it again"
        )
