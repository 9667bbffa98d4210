"""Errors of the lab: always the thing, the value seen, and what to do."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, worded for the person who has to mend it."""

    thing: str
    seen: str
    action: str

    def __str__(self) -> str:
        return f"{self.thing}: {self.seen}. {self.action}"


class LabError(Exception):
    """The verb could not do its work; carries every problem that was found."""

    def __init__(self, *problems: Problem) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems


class PreflightError(LabError):
    """The machine or the request is unfit; nothing was changed."""


def lab_error(thing: str, seen: str, action: str) -> LabError:
    """Return a LabError with a single problem."""
    return LabError(Problem(thing, seen, action))
