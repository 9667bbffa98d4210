"""Which layout of a benchmark's host is meant, when the submitter may choose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from .constants import Constants
from .question import Answer, Question, answer
from .work import Work

Choice = tuple[Question, Work, Answer]


def choose(questions: Sequence[tuple[Question, Work]], constants: Constants) -> Choice:
    """Return the layout that is submitted, with its answer.

    Submitters set up a host once, for the most tokens a second without limits, and lower the load
    until the limits hold: the layout of a service is that of the offline benchmark. Only where it
    cannot keep the limits for a single user is another one taken, the fastest that keeps them.
    """
    if len(questions) > 1 and questions[0][0].limits is not None:
        found = _fastest(questions, constants, limits=False)
        question, work, _ = found
        kept = answer(question, constants, work)
        if kept.kept:
            return question, work, kept
    return _fastest(questions, constants, limits=True)


def _fastest(
    questions: Sequence[tuple[Question, Work]], constants: Constants, *, limits: bool
) -> Choice:
    best: Choice | None = None
    for question, work in questions:
        asked = question if limits else replace(question, limits=None)
        found = answer(asked, constants, work)
        if best is None or _rank(found) > _rank(best[2]):
            best = (question, work, found)
    if best is None:
        raise RuntimeError("no layout to compute: resolve returned none")
    return best


def _rank(found: Answer) -> tuple[bool, float]:
    return found.kept, found.tokens_per_second or 0.0
