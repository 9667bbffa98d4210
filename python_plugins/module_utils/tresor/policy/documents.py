"""Strict reading of the JSON documents that gates judge."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime

from .verdict import RefusalError

FRESH = "Build the bundle again with the current builder"


def load(raw: bytes, *, limit: int, rule: str, thing: str, action: str = FRESH) -> object:
    """Parse JSON: size limit, UTF-8, no duplicate keys, no NaN. Finite floats are allowed.

    Raises:
        RefusalError: rules ``<rule>.size`` and ``<rule>.json``.
    """
    if len(raw) > limit:
        raise RefusalError(f"{rule}.size", thing, f"{len(raw)} bytes, at most {limit}", action)
    try:
        return json.loads(
            raw.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_constant=_no_constant,
            parse_float=_finite,
        )
    except (ValueError, RecursionError) as error:
        raise RefusalError(f"{rule}.json", thing, f"not strict JSON: {error}", action) from error


def load_object(
    raw: bytes, *, limit: int, rule: str, thing: str, action: str = FRESH
) -> dict[str, object]:
    """Parse a JSON object; see :func:`load`."""
    value = load(raw, limit=limit, rule=rule, thing=thing, action=action)
    if not isinstance(value, dict):
        raise RefusalError(f"{rule}.json", thing, f"{type(value).__name__}, not an object", action)
    return value


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key appears twice in one object")
    return result


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"{text[:40]} is beyond every number")
    return value


def _no_constant(text: str) -> object:
    raise ValueError(f"{text} is not a JSON number")


class Fields:
    """Typed access to one JSON object; what is absent or of another type is a refusal."""

    def __init__(self, value: object, rule: str, thing: str, action: str = FRESH) -> None:
        self.rule = f"{rule}.form"
        self.thing = thing
        self.action = action
        if not isinstance(value, dict):
            raise self.wrong("(object)", value, "an object")
        self.data: dict[str, object] = value

    def wrong(self, key: str, value: object, want: str) -> RefusalError:
        """Return the refusal of ``key``."""
        return RefusalError(self.rule, self.thing, f"{key} is {value!r}, not {want}", self.action)

    def text(self, key: str, limit: int = 2_000) -> str:
        """Return a required, non-empty text."""
        value = self.data.get(key)
        if not isinstance(value, str) or not 1 <= len(value) <= limit:
            raise self.wrong(key, value, f"text of 1 to {limit} characters")
        return value

    def optional(self, key: str, limit: int = 2_000) -> str:
        """Return a text, or the empty text when the key is absent or null."""
        return self.text(key, limit) if self.data.get(key) is not None else ""

    def integer(self, key: str) -> int:
        """Return a required integer of at least 0."""
        value = self.data.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise self.wrong(key, value, "an integer of at least 0")
        return value

    def items(self, key: str, limit: int = 1_000_000) -> list[object]:
        """Return a list; an absent key is an empty one."""
        value = self.data.get(key, [])
        if not isinstance(value, list) or len(value) > limit:
            raise self.wrong(key, type(value).__name__, f"a list of at most {limit} items")
        return value

    def texts(self, key: str) -> list[str]:
        """Return a list of texts."""
        found = self.items(key)
        texts = [value for value in found if isinstance(value, str) and value]
        if len(texts) != len(found):
            raise self.wrong(key, "something else", "a list of texts")
        return texts

    def child(self, key: str) -> Fields:
        """Return a required object."""
        return Fields(self.data.get(key), self.rule.removesuffix(".form"), self.thing, self.action)

    def children(self, key: str) -> list[Fields]:
        """Return a list of objects."""
        rule = self.rule.removesuffix(".form")
        return [
            Fields(value, rule, f"{self.thing} {key}[{index}]", self.action)
            for index, value in enumerate(self.items(key))
        ]

    def time(self, key: str) -> datetime:
        """Return a required UTC time."""
        return self.moment(key, self.text(key, 40))

    def moment(self, key: str, text: str) -> datetime:
        """Return ``text`` as a time.

        Raises:
            RefusalError: not ISO 8601 with a zone.
        """
        try:
            value = datetime.fromisoformat(text)
        except ValueError as error:
            raise self.wrong(key, text, "a UTC time such as 2026-11-23T12:00:00Z") from error
        if value.tzinfo is None:
            raise self.wrong(key, text, "a UTC time such as 2026-11-23T12:00:00Z")
        return value.astimezone(UTC)
