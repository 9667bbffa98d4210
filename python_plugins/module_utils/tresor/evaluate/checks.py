"""The checks of an answer. Each gives a score from 0 to 1, and whether the answer passes.

| kind | keys | passes |
|---|---|---|
| `exact` | `values` | the answer is one of them; case, outer blanks, final full stop do not count |
| `contains` | `values`, `any` | all values are words of the answer (with `any: true` one of them) |
| `numeric` | `value`, `tolerance` | the last number of the answer is the value, in any notation |
| `regex` | `pattern` | the pattern is found |
| `json` | `schema` | the answer is JSON, alone or in one code fence, and obeys the schema |
| `rouge_l` | `reference`, `minimum` | ROUGE-L against the reference text is at least the minimum |
| `judge` | none | no machine can tell: only the judge looks at it |
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from .errors import shown
from .json_schema import fits, schema_fault
from .rouge import rouge_l

JUDGE: Final = "judge"
_NUMBER: Final = re.compile(r"[-\u2212+]?\d+(?:[.,'\u2019\u202f\u00a0]\d+)*")
_FENCE: Final = re.compile(r"\A```[a-zA-Z]*\s*\n(.*?)\n?```\Z", re.DOTALL)


@dataclass(frozen=True)
class Graded:
    """The score of one answer from 0 to 1, and whether it passes."""

    score: float
    passed: bool


def check_fault(check: object) -> str:
    """Return what is wrong with a check of the prompts' file; empty if nothing is."""
    if not isinstance(check, Mapping):
        return f"check {shown(check)} is no object with a key kind"
    kind = check.get("kind")
    if not isinstance(kind, str) or kind not in _KINDS:
        return f"unknown check {shown(kind)}; use one of {', '.join(_KINDS)}"
    needed, optional, fault, _ = _KINDS[kind]
    missing = [key for key in needed if key not in check]
    if missing:
        return f"check {kind} lacks {', '.join(missing)}"
    strange = sorted(str(key) for key in check if key not in {"kind", *needed, *optional})
    if strange:
        known = ", ".join((*needed, *optional)) or "kind alone"
        return f"check {kind} has unknown keys {', '.join(strange)}; it knows {known}"
    return fault(check)


def grade(check: Mapping[str, Any], answer: str) -> Graded:
    """Grade an answer with a check that ``check_fault`` accepted and that is no ``judge``."""
    score = _KINDS[check["kind"]][3](check, answer)
    passed = score >= check["minimum"] if check["kind"] == "rouge_l" else score >= 1
    return Graded(score, passed)


def numbers(text: str) -> list[tuple[float, ...]]:
    """Return the numbers of a text in their order, each with every value its notation may mean.

    With both separators the last one is the decimal one. A single separator before exactly three
    digits may be either: `1.250` is 1250 in German and 1.25 in English.
    """
    return [_readings(match.group()) for match in _NUMBER.finditer(text)]


def _readings(text: str) -> tuple[float, ...]:
    sign = -1.0 if text[0] in "-\u2212" else 1.0
    text = re.sub("['\u2019\u202f\u00a0]", "", text.lstrip("+-\u2212"))
    marks = [character for character in text if character in ".,"]
    if not marks:
        return (sign * float(text),)
    whole, _, rest = text.rpartition(marks[-1])
    decimal = sign * float(f"{re.sub('[.,]', '', whole)}.{rest}")
    if len(set(marks)) > 1:
        return (decimal,)
    thousands = sign * float(re.sub("[.,]", "", text))
    if len(marks) > 1:
        return (thousands,)
    return (thousands, decimal) if len(rest) == 3 and not whole.startswith("0") else (decimal,)


def json_of(answer: str) -> object:
    """Return the JSON value of an answer, also in one code fence.

    Raises:
        ValueError: it is no JSON.
    """
    text = answer.strip()
    fenced = _FENCE.match(text)
    return json.loads(fenced[1] if fenced else text)


def _plain(text: str) -> str:
    return " ".join(text.casefold().split()).rstrip(".!").strip("\"'\u201e\u201c\u201d*` ")


def _has(answer: str, value: str) -> bool:
    """Return whether a value stands in an answer and is no part of a longer word or number."""
    wanted = re.escape(" ".join(value.casefold().split()))
    return re.search(rf"(?<!\w){wanted}(?!\w)", " ".join(answer.casefold().split())) is not None


def _exact(check: Mapping[str, Any], answer: str) -> float:
    return float(_plain(answer) in {_plain(value) for value in check["values"]})


def _contains(check: Mapping[str, Any], answer: str) -> float:
    found = [_has(answer, value) for value in check["values"]]
    return float(any(found)) if check.get("any") else sum(found) / len(found)


def _numeric(check: Mapping[str, Any], answer: str) -> float:
    found = numbers(answer)
    near = check.get("tolerance", 0) + 1e-9 * abs(check["value"])
    return float(bool(found) and any(abs(one - check["value"]) <= near for one in found[-1]))


def _regex(check: Mapping[str, Any], answer: str) -> float:
    return float(re.search(check["pattern"], answer) is not None)


def _json(check: Mapping[str, Any], answer: str) -> float:
    try:
        return float(fits(json_of(answer), check["schema"]))
    except (ValueError, RecursionError):
        return 0.0


def _rouge(check: Mapping[str, Any], answer: str) -> float:
    return rouge_l(answer, check["reference"])


def _values_fault(check: Mapping[str, Any]) -> str:
    values = check["values"]
    good = isinstance(values, list) and values and all(isinstance(v, str) and v for v in values)
    if not good:
        return f"values is {shown(values)}; write a list of texts"
    if not isinstance(check.get("any", False), bool):
        return f"any is {shown(check['any'])}; write true or false"
    return ""


def _numeric_fault(check: Mapping[str, Any]) -> str:
    for key in ("value", "tolerance"):
        value = check.get(key, 0)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return f"{key} is {shown(value)}; write a number"
        if not math.isfinite(value):
            return f"{key} is {value}; write a finite number"
    return "" if check.get("tolerance", 0) >= 0 else f"tolerance is {check['tolerance']}, below 0"


def _regex_fault(check: Mapping[str, Any]) -> str:
    try:
        re.compile(check["pattern"])
    except (re.error, TypeError) as error:
        return f"pattern {shown(check['pattern'])} is no regular expression: {error}"
    return ""


def _rouge_fault(check: Mapping[str, Any]) -> str:
    least, reference = check["minimum"], check["reference"]
    if not isinstance(reference, str) or not reference.strip():
        return f"reference is {shown(reference)}; write the text to compare with"
    number = isinstance(least, (int, float)) and not isinstance(least, bool)
    return "" if number and 0 < least <= 1 else f"minimum is {shown(least)}; write above 0, up to 1"


_Kind = tuple[
    tuple[str, ...],
    tuple[str, ...],
    Callable[[Mapping[str, Any]], str],
    Callable[[Mapping[str, Any], str], float],
]
_KINDS: Final[Mapping[str, _Kind]] = {
    "exact": (("values",), (), _values_fault, _exact),
    "contains": (("values",), ("any",), _values_fault, _contains),
    "numeric": (("value",), ("tolerance",), _numeric_fault, _numeric),
    "regex": (("pattern",), (), _regex_fault, _regex),
    "json": (("schema",), (), lambda check: schema_fault(check["schema"]), _json),
    "rouge_l": (("reference", "minimum"), (), _rouge_fault, _rouge),
    JUDGE: ((), (), lambda check: "", lambda check, answer: 0.0),
}
