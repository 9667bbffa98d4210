"""Canonical JSON: one byte string per value, so that digests and signatures have one meaning."""

from __future__ import annotations

import hashlib
import json

from .errors import RejectedError

_MAX_INTEGER = 2**53 - 1  # what every JSON reader keeps exactly


def dump_canonical(obj: object) -> bytes:
    """Return ``obj`` as UTF-8 JSON: keys sorted, no spaces, no escapes beyond what JSON demands.

    Floats are refused (their text is not unique), as are integers beyond 2^53 - 1, keys that are
    not strings, and text that is not valid Unicode.

    Raises:
        RejectedError: rule ``canonical.type``.
    """
    _check(obj, "$")
    text = json.dumps(obj, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise RejectedError("canonical.type", f"text is not valid Unicode: {error}") from error


def load_strict(raw: bytes, *, limit: int, rule: str, path: str = "") -> object:
    """Parse JSON with limits: size, UTF-8, no duplicate keys, no floats, no NaN.

    Args:
        raw: the bytes.
        limit: most bytes accepted.
        rule: prefix of the rule names, for example ``manifest``.
        path: named in the error.

    Raises:
        RejectedError: rules ``<rule>.size`` and ``<rule>.json``.
    """
    if len(raw) > limit:
        raise RejectedError(f"{rule}.size", f"{len(raw)} bytes, at most {limit} are read", path)
    try:
        return json.loads(
            raw.decode("utf-8"),
            object_pairs_hook=_no_duplicates,
            parse_float=_no_number,
            parse_constant=_no_number,
        )
    except (ValueError, RecursionError) as error:
        raise RejectedError(f"{rule}.json", f"not strict JSON: {error}", path) from error


def sha256_hex(raw: bytes) -> str:
    """Return the SHA-256 of ``raw`` as 64 lower-case hex digits."""
    return hashlib.sha256(raw).hexdigest()


def _no_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise ValueError(f"key {key!r} appears twice")
            seen.add(key)
    return result


def _no_number(text: str) -> object:
    raise ValueError(f"number {text!r} is not an integer")


def _check(value: object, where: str) -> None:
    if value is None or isinstance(value, (bool, str)):
        return
    if isinstance(value, int):
        if abs(value) > _MAX_INTEGER:
            raise RejectedError("canonical.type", f"integer {value} is beyond 2^53 - 1", where)
        return
    if isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            _check(item, f"{where}[{index}]")
        return
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise RejectedError("canonical.type", f"key {key!r} is not a string", where)
            _check(item, f"{where}.{key}")
        return
    raise RejectedError("canonical.type", f"{type(value).__name__} has no canonical form", where)
