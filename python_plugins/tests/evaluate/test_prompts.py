"""The shipped prompts are sound; wrong files are told with line and value."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tresor.evaluate.checks import grade
from tresor.evaluate.errors import PromptsError
from tresor.evaluate.prompts import MOST, read_prompts

from .conftest import file_of, line

SHIPPED = Path(__file__).parents[3] / "roles/evaluation/files/prompts.jsonl"
CHECK = {"kind": "exact", "values": ["a"]}


def test_shipped_prompts_are_many_in_both_languages_and_all_kinds() -> None:
    items = read_prompts(SHIPPED.read_bytes(), "prompts.jsonl").items
    languages = Counter(item.lang for item in items)
    assert len(items) == 100
    assert languages["de"] == languages["en"]
    assert {item.kind for item in items} == {
        "question", "arithmetic", "classification", "extraction", "json", "summary",
    }  # fmt: skip
    assert {item.check["kind"] for item in items} >= {
        "exact", "contains", "numeric", "json", "rouge_l"
    }  # fmt: skip
    assert len({item.question for item in items}) == len(items)


def answer_of(check: dict[str, Any]) -> str:
    """Return an answer that a check must take."""
    if check["kind"] == "json":
        return json.dumps(value_of(check["schema"]), ensure_ascii=False)
    if check["kind"] == "contains":
        return f"It is {', '.join(check['values'])}."
    known: dict[str, Any] = {"exact": check.get("values", [""])[0], **check}
    return str(known[{"exact": "exact", "numeric": "value", "rouge_l": "reference"}[check["kind"]]])


def value_of(schema: dict[str, Any]) -> Any:
    """Return a value that obeys a schema as the shipped prompts have them."""
    if "const" in schema:
        return schema["const"]
    if schema["type"] == "object":
        return {name: value_of(part) for name, part in schema["properties"].items()}
    if schema["type"] == "array":
        return [value_of(schema["items"])] * schema["minItems"]
    return schema.get("pattern", "text").strip("^$").replace("0?", "0")


def test_shipped_checks_take_a_right_answer_and_no_empty_one() -> None:
    for item in read_prompts(SHIPPED.read_bytes(), "prompts.jsonl").items:
        assert grade(item.check, answer_of(dict(item.check))).passed, item.id
        assert not grade(item.check, "").passed, item.id


def test_messages_may_stand_in_place_of_a_prompt() -> None:
    entry = line(1, CHECK)
    entry["messages"] = [
        {"role": "system", "content": "short"},
        {"role": "user", "content": entry.pop("prompt")},
    ]
    (item,) = read_prompts(file_of([entry]), "p").items
    assert item.question == "short\nquestion 1"


def spoilt(**changes: Any) -> bytes:
    entry = {**line(1, CHECK), **changes}
    text = json.dumps({key: value for key, value in entry.items() if value is not None})
    return b"\n" + text.encode()


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b'\n{"id": "a",\n', "line 2: is no JSON (Expecting property name"),
        (b"\n\xff\n", "line 2: is no UTF-8"),
        (b"\n[1]\n", "line 2: is no JSON object: [1]"),
        (b"\n" + b"[" * 100_000, "line 2: is no JSON"),
        (spoilt(check=None), "line 2: lacks the key check"),
        (spoilt(check={"kind": "vibes"}), "line 2: unknown check 'vibes'"),
        (spoilt(id="a b"), "line 2: id is 'a b'"),
        (spoilt(prompt=None), "line 2: must have either prompt or messages"),
        (spoilt(prompt=" "), "line 2: prompt is ' '"),
        (spoilt(prompt=None, messages=[{"role": "user"}]), "line 2: messages is [{'role'"),
        (spoilt(max_tokens=99999), "line 2: max_tokens is 99999; write 1 to 1024"),
        (spoilt(answer="x"), "line 2: has the unknown key 'answer'"),
        (file_of([line(1, CHECK), line(1, CHECK)]), "line 2: id 'p1' stands in line 1"),
        (b"\n\n", "holds no prompt"),
        (file_of([line(n, CHECK) for n in range(MOST + 1)]), "1001 prompts, at most 1000"),
    ],
)
def test_wrong_file_is_told_with_line_and_value(data: bytes, says: str) -> None:
    with pytest.raises(PromptsError) as caught:
        read_prompts(data, "claims.jsonl")
    assert "claims.jsonl" in str(caught.value)
    assert says in str(caught.value)


def test_all_wrong_lines_are_told_at_once_up_to_a_bound() -> None:
    with pytest.raises(PromptsError) as caught:
        read_prompts(b"x\n" * 30, "p")
    assert len(str(caught.value).splitlines()) == 21
    assert str(caught.value).endswith("and 10 more")
