"""What is wrong with an inventory, said so that one reading is enough to mend it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final

SEEN_LIMIT: Final = 80
"""Longest value, in characters, that a message repeats."""
LIST_LIMIT: Final = 10
"""From this many names on, a near match is said instead of all of them."""
NOTHING: Final = object()
"""Stands for "there is no value here" where a message tells what was seen."""


@dataclass(frozen=True, order=True)
class Problem:
    """One mistake: where it stands, what is wrong, the value seen and what to write instead."""

    file: str
    line: int
    key: str
    wrong: str
    seen: str
    fix: str

    def __str__(self) -> str:
        """Return the message as one line: place, key, fault, value seen, remedy."""
        return f"{self.file}:{self.line}: {self.key}: {self.wrong}; saw {self.seen}; {self.fix}"

    def as_dict(self) -> dict[str, str | int]:
        """Return the fields for a machine-readable result."""
        return {
            "file": self.file,
            "line": self.line,
            "key": self.key,
            "wrong": self.wrong,
            "seen": self.seen,
            "fix": self.fix,
        }


class InventoryError(Exception):
    """The inventory cannot be used; carries every problem that was found, in file order."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        """Sort the problems and drop doubles."""
        self.problems: tuple[Problem, ...] = tuple(sorted(set(problems)))
        count = len(self.problems)
        head = f"The inventory has {count} problem{'s' if count != 1 else ''}; nothing was written."
        super().__init__("\n".join([head, *(f"  {problem}" for problem in self.problems)]))


def seen_text(value: object) -> str:
    """Return a value as it may appear in a message: JSON, shortened."""
    if value is NOTHING:
        return "nothing"
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= SEEN_LIMIT else text[: SEEN_LIMIT - 3] + "..."


def one_of(names: Iterable[str], seen: str | None = None) -> str:
    """Return the remedy for a name out of a known set, with the nearest name if there is one."""
    known = sorted(set(names))
    if not known:
        return "there is none to choose from yet: define one first"
    text = "write one of " + ", ".join(known)
    near = get_close_matches(seen, known, n=1, cutoff=0.6) if seen is not None else []
    if not near:
        return text
    if len(known) > LIST_LIMIT:
        return f"did you mean {near[0]!r}?"
    return f"{text} (did you mean {near[0]!r}?)"
