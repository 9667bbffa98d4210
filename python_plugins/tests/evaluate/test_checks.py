"""Every kind of check, with what passes, what fails, and what is no check."""

from __future__ import annotations

from typing import Any

import pytest

from tresor.evaluate.checks import check_fault, grade, numbers
from tresor.evaluate.json_schema import fits, schema_fault
from tresor.evaluate.rouge import common, rouge_l

CASES: list[tuple[dict[str, Any], str, bool]] = [
    ({"kind": "exact", "values": ["Schaden"]}, ' "schaden". ', True),
    ({"kind": "exact", "values": ["Schaden"]}, "Das ist ein Schaden.", False),
    ({"kind": "contains", "values": ["Wien"]}, "Die Hauptstadt ist Wien.", True),
    ({"kind": "contains", "values": ["Wien"]}, "Wiener Neustadt", False),
    ({"kind": "contains", "values": ["HV-2"]}, "Es ist HV-20", False),
    ({"kind": "contains", "values": ["a", "b"]}, "a", False),
    ({"kind": "contains", "values": ["a", "b"], "any": True}, "b", True),
    ({"kind": "numeric", "value": 1212.5}, "Zu zahlen: 1.212,50 Euro", True),
    ({"kind": "numeric", "value": 1250}, "1.250", True),
    ({"kind": "numeric", "value": 1.25}, "1.250", True),
    ({"kind": "numeric", "value": 1250000}, "1,250,000", True),
    ({"kind": "numeric", "value": -3}, "17 - 20 = \u22123", True),
    ({"kind": "numeric", "value": 391}, "17 * 23 = 391.", True),
    ({"kind": "numeric", "value": 17}, "17 * 23 = 391", False),
    ({"kind": "numeric", "value": 3.14, "tolerance": 0.01}, "pi is 3.1416", True),
    ({"kind": "numeric", "value": 3}, "three", False),
    ({"kind": "regex", "pattern": r"^\d{4}$"}, "1989", True),
    ({"kind": "regex", "pattern": r"^\d{4}$"}, "im Jahr 1989", False),
    ({"kind": "json", "schema": {"type": "object"}}, '```json\n{"a": 1}\n```', True),
    ({"kind": "json", "schema": {"type": "object"}}, 'Gern: {"a": 1}', False),
    ({"kind": "json", "schema": {"const": [8, 14]}}, "[8, 14]", True),
    ({"kind": "json", "schema": {"const": [1]}}, "[true]", False),
    ({"kind": "rouge_l", "reference": "a b c d", "minimum": 0.5}, "a x b y", True),
    ({"kind": "rouge_l", "reference": "a b c d", "minimum": 0.6}, "a x b y", False),
]


@pytest.mark.parametrize(("check", "answer", "passes"), CASES)
def test_check_passes_and_fails(check: dict[str, Any], answer: str, passes: bool) -> None:
    assert check_fault(check) == ""
    assert grade(check, answer).passed is passes


@pytest.mark.parametrize(
    ("check", "says"),
    [
        ("exact", "is no object"),
        ({"kind": "vibes"}, "unknown check 'vibes'; use one of exact"),
        ({"kind": "exact"}, "lacks values"),
        ({"kind": "exact", "values": "Ja"}, "write a list of texts"),
        ({"kind": "exact", "values": ["Ja"], "min": 1}, "unknown keys min"),
        ({"kind": "contains", "values": ["a"], "any": "yes"}, "write true or false"),
        ({"kind": "numeric", "value": "3"}, "value is '3'; write a number"),
        ({"kind": "numeric", "value": float("nan")}, "finite"),
        ({"kind": "numeric", "value": 3, "tolerance": -1}, "below 0"),
        ({"kind": "regex", "pattern": "("}, "is no regular expression"),
        ({"kind": "rouge_l", "reference": "a", "minimum": 2}, "write above 0, up to 1"),
        ({"kind": "json", "schema": {"oneOf": []}}, "'oneOf' is not known"),
        ({"kind": "json", "schema": {"items": {"type": "text"}}}, "type has the value 'text'"),
    ],
)
def test_wrong_check_is_told(check: object, says: str) -> None:
    assert says in check_fault(check)


def test_a_number_has_both_readings_only_where_its_notation_is_open() -> None:
    assert numbers("1.234,5 und 0,125 und 12,5 und 1'000") == [
        (1234.5,), (0.125,), (12.5,), (1000.0,)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("answer", "reference", "expected"),
    [
        # Lin 2004, section 3.1: "police kill the gunman" has LCS 3, "the gunman kill police" 2.
        ("police kill the gunman", "police killed the gunman", 0.75),
        ("the gunman kill police", "police killed the gunman", 0.5),
        ("The gunman, POLICE killed!", "police killed the gunman", 0.5),
        ("Größe", "größe", 1.0),
        ("a", "b", 0.0),
        ("", "b", 0.0),
        ("a b", "a b c d e f", 0.5),
    ],
)
def test_rouge_l_has_the_published_values(answer: str, reference: str, expected: float) -> None:
    assert rouge_l(answer, reference) == pytest.approx(expected)


def test_longest_common_subsequence_is_symmetric_and_right() -> None:
    assert common("ABCBDAB", "BDCABA") == common("BDCABA", "ABCBDAB") == 4


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ({"type": "integer", "minimum": 1, "maximum": 3}, [1, 3, 2.0], [0, 4, True, 1.5, "1"]),
        ({"enum": ["a", 1], "type": "string"}, ["a"], [1, "b"]),
        ({"enum": ["a", "b"], "const": "a"}, ["a"], ["b"]),
        ({"type": "array", "items": {"type": "null"}, "maxItems": 1}, [[], [None]], [[1], 3]),
        (
            {"required": ["a"], "properties": {"a": {}}, "additionalProperties": False},
            [{"a": 1}],
            [{}, {"a": 1, "b": 2}],
        ),
        ({"pattern": "^x"}, ["xy", 3], ["yx"]),
    ],
)
def test_schema_is_enforced(schema: dict[str, Any], good: list[Any], bad: list[Any]) -> None:
    assert schema_fault(schema) == ""
    assert [value for value in good if not fits(value, schema)] == []
    assert [value for value in bad if fits(value, schema)] == []
