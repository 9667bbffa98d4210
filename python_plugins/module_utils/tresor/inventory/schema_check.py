"""Validate a concern with its JSON Schema and say the result in the operator's words."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from .document import Document, KeyPath
from .formats import FORMATS
from .problems import NOTHING, Problem, one_of

Schema = dict[str, Any]


def load_schema(directory: Path, name: str) -> Schema:
    """Return the schema `<name>.schema.json`; raises OSError or ValueError if it is unusable."""
    schema: Schema = json.loads((directory / f"{name}.schema.json").read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(schema)
    return schema


def schema_problems(document: Document, variable: str, schema: Schema) -> Iterator[Problem]:
    """Yield what the schema finds in the value of the file's one variable."""
    data = document.data
    if not isinstance(data, dict):
        fix = f"let the file hold the one variable {variable}"
        yield document.problem((), "is no mapping of variables", fix)
        return
    for key in data:
        if key != variable:
            fix = f"{one_of([variable], key)}; other variables belong in wiring.yml"
            yield document.problem((key,), "is not a variable of this file", fix, seen=key)
    if variable not in data:
        yield document.problem(
            (), f"lacks the variable {variable}", f"write {variable}:", seen=NOTHING
        )
        return
    yield from value_problems(document, (variable,), data[variable], schema)


def value_problems(
    document: Document, path: KeyPath, value: object, schema: Schema
) -> Iterator[Problem]:
    """Yield what the schema finds in the value at a path of the file."""
    validator = Draft202012Validator(schema, format_checker=FORMATS)
    for error in validator.iter_errors(value):
        yield from _problems(document, (*path, *error.absolute_path), error)


def violations(instance: object, schema: Schema) -> list[str]:
    """Return the messages of a schema for data that did not come from a file of the operator."""
    validator = Draft202012Validator(schema, format_checker=FORMATS)
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(instance)]


def _problems(document: Document, path: KeyPath, error: ValidationError) -> Iterator[Problem]:
    schema = error.schema if isinstance(error.schema, dict) else {}
    advice = schema.get("description", "")
    wanted: Any = error.validator_value
    instance: Any = error.instance
    if error.validator == "additionalProperties" and wanted is False:
        known = schema.get("properties", {})
        for key in instance:
            if key not in known:
                yield document.problem((*path, key), "unknown key", one_of(known, key), seen=key)
    elif error.validator == "required":
        for key in wanted:
            if key not in instance:
                hint = schema.get("properties", {}).get(key, {}).get("description", "a value")
                fix = f"write {key}: {hint}"
                yield document.problem((*path, key), "missing key", fix, seen=NOTHING)
    elif error.validator == "enum":
        seen = instance if isinstance(instance, str) else None
        fix = one_of([str(value) for value in wanted], seen)
        yield document.problem(path, "is not one of the allowed values", fix, seen=instance)
    else:
        wrong = _WRONG.get(str(error.validator), "does not fit the schema")
        if error.validator in _WITH_LIMIT:
            wrong = f"{wrong} {wanted}"
        fix = f"write {advice}" if advice else f"write what the schema asks: {error.message}"
        yield document.problem(path, wrong, fix, seen=instance)


_WITH_LIMIT = {"minimum", "maximum", "minItems", "maxItems", "minLength", "maxLength", "type"}
_WRONG = {
    "type": "has the wrong type, expected",
    "pattern": "has the wrong form",
    "format": "has the wrong form",
    "minimum": "is below",
    "maximum": "is above",
    "minItems": "has fewer entries than",
    "maxItems": "has more entries than",
    "minLength": "is shorter than",
    "maxLength": "is longer than",
    "uniqueItems": "has an entry twice",
    "const": "has the wrong value",
    "minProperties": "is empty",
    "exclusiveMinimum": "is not above",
    "dependentRequired": "lacks what belongs to it: gpu and gpus stand together",
}
