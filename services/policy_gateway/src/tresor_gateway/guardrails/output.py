"""Answers that must obey a JSON Schema: check, and once try to save what does not.

The schema comes from the client: patterns are compiled by an engine without backtracking, and
references to other documents are never followed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import jsonschema_rs
import msgspec

from tresor_gateway.guardrails.schema_cost import SchemaError, Weight, weigh

_PROGRAM_BYTES: Final = 1 << 20
_MAX_PROBLEM: Final = 300
# Places of a schema times characters of an answer.
_MAX_EXPLAINED: Final = 4_000_000
_OPENERS: Final = "{["


@dataclass(frozen=True)
class Checked:
    """An answer after the check. ``text`` is the repaired one when ``repaired``."""

    text: str
    valid: bool
    repaired: bool = False
    problem: str = ""


class OutputSchema:
    """A compiled schema."""

    def __init__(self, schema: dict[str, Any]) -> None:
        """Compile.

        Raises:
            SchemaError: malformed, too costly, refers to other documents, or a pattern needs
                backtracking.
        """
        self._weight: Weight = weigh(schema)
        options = jsonschema_rs.RegexOptions(
            size_limit=_PROGRAM_BYTES, dfa_size_limit=_PROGRAM_BYTES
        )
        try:
            self._validator = jsonschema_rs.validator_for(
                schema, pattern_options=options, offline=True
            )
        except (ValueError, RecursionError) as error:
            raise SchemaError(str(error).split("\n", 1)[0][:_MAX_PROBLEM]) from error

    def check(self, text: str) -> Checked:
        """Whether ``text`` obeys; if not, the JSON value inside of it may."""
        problem = self._problem(text)
        if not problem:
            return Checked(text, valid=True)
        inner = _inner_json(text)
        if inner is not None and inner != text and not self._problem(inner):
            return Checked(inner, valid=True, repaired=True)
        return Checked(text, valid=False, problem=problem)

    def _problem(self, text: str) -> str:
        try:
            value = msgspec.json.decode(text)
        except (msgspec.DecodeError, RecursionError, UnicodeEncodeError):
            return "it is not JSON"
        if self._validator.is_valid(value):
            return ""
        if self._weight.recursive or self._weight.places * len(text) > _MAX_EXPLAINED:
            # Explaining costs as much for every place as a copy of the answer, and more.
            return "it does not obey the schema"
        for error in self._validator.iter_errors(value):
            where = "/".join(str(step) for step in error.instance_path)
            return f"at '/{where}': {error.message}"[:_MAX_PROBLEM]
        return ""


def _inner_json(text: str) -> str | None:
    """From the first bracket to the last one that fits: models like to add a fence or a word."""
    starts = [start for start in (text.find(opener) for opener in _OPENERS) if start >= 0]
    if not starts:
        return None
    start = min(starts)
    end = text.rfind("}" if text[start] == "{" else "]")
    return text[start : end + 1] if end > start else None
