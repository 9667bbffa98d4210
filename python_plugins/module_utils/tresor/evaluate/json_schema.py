"""A part of JSON Schema for answers, with the standard library alone.

A schema with a keyword that is not known here is refused when the prompts are read: a rule that is
not enforced would let every answer pass.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from .errors import shown

_TYPES: Final[Mapping[str, tuple[type, ...]]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}
_DEPTH: Final = 16


def schema_fault(schema: object, depth: int = 0) -> str:
    """Return what is wrong with a schema; empty if nothing is."""
    if not isinstance(schema, Mapping):
        return f"schema {shown(schema)} is no object"
    if depth > _DEPTH:
        return f"schema is nested deeper than {_DEPTH}"
    for keyword, value in schema.items():
        form = _FORMS.get(keyword)
        if form is None:
            return f"schema keyword {shown(keyword)} is not known; use one of {', '.join(_FORMS)}"
        if not form(value):
            return f"schema keyword {keyword} has the value {shown(value)}"
    for part in _parts(schema):
        fault = schema_fault(part, depth + 1)
        if fault:
            return fault
    return ""


def _parts(schema: Mapping[str, Any]) -> Iterator[object]:
    yield from schema.get("properties", {}).values()
    if "items" in schema:
        yield schema["items"]


def fits(value: object, schema: Mapping[str, Any]) -> bool:
    """Return whether a decoded JSON value obeys a schema that ``schema_fault`` accepted."""
    if "type" in schema and not _is(value, schema["type"]):
        return False
    allowed = [
        *([schema["enum"]] if "enum" in schema else []),
        *([[schema["const"]]] if "const" in schema else []),
    ]
    if not all(any(_same(value, one) for one in choices) for choices in allowed):
        return False
    if isinstance(value, dict):
        return _object_fits(value, schema)
    if isinstance(value, list):
        return _list_fits(value, schema)
    return _plain_fits(value, schema)


def _plain_fits(value: object, schema: Mapping[str, Any]) -> bool:
    if isinstance(value, str):
        return "pattern" not in schema or re.search(schema["pattern"], value) is not None
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        low, high = schema.get("minimum", value), schema.get("maximum", value)
        return bool(low <= value <= high)
    return True


def _object_fits(value: Mapping[str, Any], schema: Mapping[str, Any]) -> bool:
    known = schema.get("properties", {})
    if any(name not in value for name in schema.get("required", [])):
        return False
    if schema.get("additionalProperties") is False and any(name not in known for name in value):
        return False
    return all(fits(value[name], part) for name, part in known.items() if name in value)


def _list_fits(value: list[Any], schema: Mapping[str, Any]) -> bool:
    least, most = schema.get("minItems", 0), schema.get("maxItems", len(value))
    if not least <= len(value) <= most:
        return False
    return "items" not in schema or all(fits(one, schema["items"]) for one in value)


def _is(value: object, name: str) -> bool:
    if isinstance(value, bool):
        return name == "boolean"
    if name == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, _TYPES[name])


def _same(one: object, other: object) -> bool:
    """Return whether two JSON values are equal; in Python True equals 1, in JSON it does not."""
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def _is_regex(value: object) -> bool:
    try:
        re.compile(value if isinstance(value, str) else "(")
    except re.error:
        return False
    return True


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_names(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


_FORMS: Final[Mapping[str, Callable[[Any], bool]]] = {
    "type": lambda value: isinstance(value, str) and value in _TYPES,
    "enum": lambda value: isinstance(value, list) and bool(value),
    "const": lambda value: True,
    "properties": lambda value: isinstance(value, Mapping),
    "required": _is_names,
    "additionalProperties": lambda value: isinstance(value, bool),
    "items": lambda value: isinstance(value, Mapping),
    "minItems": _is_count,
    "maxItems": _is_count,
    "minimum": _is_number,
    "maximum": _is_number,
    "pattern": _is_regex,
}
