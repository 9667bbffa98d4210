"""Answers obey the schema the client asked for, or the client hears that they do not."""

from __future__ import annotations

import pytest

from tresor_gateway.guardrails.output import OutputSchema
from tresor_gateway.guardrails.schema_cost import SchemaError

SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string", "pattern": "^[A-Z]"}, "people": {"type": "integer"}},
    "required": ["city"],
    "additionalProperties": False,
}


def test_obedient_answer_is_left_alone() -> None:
    checked = OutputSchema(SCHEMA).check('{"city": "Lima"}')
    assert (checked.valid, checked.repaired, checked.text) == (True, False, '{"city": "Lima"}')


@pytest.mark.parametrize(
    "text",
    ['```json\n{"city": "Lima"}\n```', 'Sure! Here you are: {"city": "Lima"} Anything else?'],
)
def test_value_inside_of_prose_is_taken_out(text: str) -> None:
    checked = OutputSchema(SCHEMA).check(text)
    assert (checked.valid, checked.repaired, checked.text) == (True, True, '{"city": "Lima"}')


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"city": "lima"}', "/city"),
        ('{"city": "Lima", "x": 1}', "'x'"),
        ("{}", "city"),
        ("Lima", "not JSON"),
        ('{"city": "Li', "not JSON"),
        ("[" * 10_000, "not JSON"),
    ],
)
def test_what_cannot_be_saved_is_invalid_with_the_reason(text: str, problem: str) -> None:
    checked = OutputSchema(SCHEMA).check(text)
    assert not checked.valid
    assert checked.text == text
    assert problem in checked.problem


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "nothing"},
        {"$ref": "https://example.com/schema.json"},
        {"$ref": "file:///etc/hostname"},
        {"type": "string", "pattern": "(?=a)b"},
        {"type": "string", "pattern": "("},
    ],
)
def test_schema_that_cannot_be_used_safely_is_refused(schema: dict[str, object]) -> None:
    with pytest.raises(SchemaError):
        OutputSchema(schema)


def test_hostile_pattern_takes_no_time() -> None:
    schema = OutputSchema({"type": "string", "pattern": "^(a+)+$"})
    assert not schema.check('"' + "a" * 50_000 + '!"').valid
