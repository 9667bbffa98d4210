"""Read a file of prompts: one JSON object a line.

Keys: `id`, `lang` (such as de or en), `kind` (a free word, by which the page groups), `prompt` (or
`messages` as the chat API has them), `check` (see ``checks``), and optionally `max_tokens`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from .checks import check_fault
from .errors import PromptsError, shown

MOST: Final = 1000
"""Prompts of one evaluation."""
MOST_BYTES: Final = 16 * 1024 * 1024
MOST_TOKENS: Final = 1024
DEFAULT_TOKENS: Final = 128
_MOST_PROBLEMS: Final = 20
_WORD: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
_NEEDED: Final = ("id", "lang", "kind", "check")
_ROLES: Final = ("system", "user", "assistant")


@dataclass(frozen=True)
class Prompt:
    """One question with the check of its answer; ``max_tokens`` bounds the answer."""

    id: str
    lang: str
    kind: str
    messages: tuple[Mapping[str, str], ...]
    check: Mapping[str, Any]
    max_tokens: int

    @property
    def question(self) -> str:
        """Return what is asked, as one text."""
        return "\n".join(message["content"] for message in self.messages)


@dataclass(frozen=True)
class Prompts:
    """All prompts of a file in its order, and the digest of the file."""

    items: tuple[Prompt, ...]
    sha256: str


def read_prompts(data: bytes, name: str) -> Prompts:
    """Return the prompts of a file's content.

    Raises:
        PromptsError: with every problem, each with the line and the value seen.
    """
    if len(data) > MOST_BYTES:
        raise PromptsError(f"{name} has {len(data)} bytes, at most {MOST_BYTES} are read: split it")
    problems: list[str] = []
    items: list[Prompt] = []
    first: dict[str, int] = {}
    for number, line in enumerate(data.split(b"\n"), start=1):
        if not line.strip():
            continue
        found = _prompt(line)
        if isinstance(found, str):
            problems.append(f"{name} line {number}: {found}")
        elif found.id in first:
            problems.append(
                f"{name} line {number}: id {shown(found.id)} stands in line {first[found.id]}"
            )
        else:
            first[found.id] = number
            items.append(found)
    if not items and not problems:
        problems.append(f"{name} holds no prompt; write one JSON object a line")
    if len(items) > MOST:
        problems.append(f"{name} holds {len(items)} prompts, at most {MOST} are asked: split it")
    if problems:
        more = len(problems) - _MOST_PROBLEMS
        rest = [f"and {more} more"] if more > 0 else []
        raise PromptsError("\n".join([*problems[:_MOST_PROBLEMS], *rest]))
    return Prompts(tuple(items), hashlib.sha256(data).hexdigest())


def _prompt(line: bytes) -> Prompt | str:
    """Return the prompt of a line, or what is wrong with it."""
    try:
        entry = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        return f"is no UTF-8: {error.reason} at byte {error.start}"
    except (ValueError, RecursionError) as error:
        return f"is no JSON ({error}): {shown(line.decode('utf-8'))}"
    if not isinstance(entry, dict):
        return f"is no JSON object: {shown(entry)}"
    for fault in _faults(entry):
        return fault
    asked = entry.get("messages") or [{"role": "user", "content": entry["prompt"]}]
    return Prompt(
        entry["id"],
        entry["lang"],
        entry["kind"],
        tuple(dict(message) for message in asked),
        entry["check"],
        entry.get("max_tokens", DEFAULT_TOKENS),
    )


def _faults(entry: Mapping[str, Any]) -> Iterator[str]:
    for key in _NEEDED:
        if key not in entry:
            yield f"lacks the key {key}"
    known = {*_NEEDED, "prompt", "messages", "max_tokens"}
    for key in entry:
        if key not in known:
            yield f"has the unknown key {shown(key)}; known are {', '.join(sorted(known))}"
    for key in ("id", "lang", "kind"):
        if not isinstance(entry[key], str) or not _WORD.fullmatch(entry[key]):
            yield f"{key} is {shown(entry[key])}; write letters, digits, dots, dashes, underscores"
    if ("prompt" in entry) == ("messages" in entry):
        yield "must have either prompt or messages"
    if "prompt" in entry and not _text(entry["prompt"]):
        yield f"prompt is {shown(entry['prompt'])}; write the question"
    if "messages" in entry and not _conversation(entry["messages"]):
        yield (
            f"messages is {shown(entry['messages'])}; write a list of objects with role "
            f"({', '.join(_ROLES)}) and content, the last one the user's"
        )
    tokens = entry.get("max_tokens", DEFAULT_TOKENS)
    if isinstance(tokens, bool) or not isinstance(tokens, int) or not 1 <= tokens <= MOST_TOKENS:
        yield f"max_tokens is {shown(tokens)}; write 1 to {MOST_TOKENS}"
    fault = check_fault(entry["check"])
    if fault:
        yield fault


def _text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _conversation(value: object) -> bool:
    if not isinstance(value, list) or not value:
        return False
    for message in value:
        if not isinstance(message, dict) or set(message) != {"role", "content"}:
            return False
        if message["role"] not in _ROLES or not _text(message["content"]):
            return False
    return bool(value[-1]["role"] == "user")
