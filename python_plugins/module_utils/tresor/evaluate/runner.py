"""Carry out an evaluation: who they are, one by one, all at once, the judge, who they are now.

Every prompt must be answered by both instances or there is no result: an answer that is missing
says nothing about quality, and leaving it out would choose the prompts after the fact.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

from .asking import Answer, Instance
from .errors import InstanceError
from .identity import Identity, changed
from .judge import TOKENS, preference
from .prompts import Prompt, Prompts

Ask = Callable[[Instance, Sequence[Mapping[str, str]], int], Answer]
Identify = Callable[[Instance], Identity]
SCHEMA: Final = "evaluation-answers/v1"
WARM_UP: Final = 2
"""Requests to each instance before times count."""


@dataclass(frozen=True)
class Wanted:
    """What to compare. ``judge`` is None where no model shall judge."""

    reference: Instance
    candidate: Instance
    judge: Instance | None
    concurrency: int


def run(wanted: Wanted, prompts: Prompts, ask: Ask, identify: Identify) -> dict[str, Any]:
    """Return everything that was answered, as the report reads it.

    Raises:
        InstanceError: an instance does not answer a prompt, or is not the same at the end.
    """
    both = {"reference": wanted.reference, "candidate": wanted.candidate}
    if wanted.judge is not None:
        identify(wanted.judge)
    before = {role: identify(instance) for role, instance in both.items()}
    warm = {
        role: [_asked(ask, instance, prompt) for prompt in prompts.items[:WARM_UP]]
        for role, instance in both.items()
    }
    single = _one_by_one(both, prompts, ask)
    crowded = {
        role: _at_once(instance, prompts, ask, wanted.concurrency)
        for role, instance in both.items()
    }
    after = {role: identify(instance) for role, instance in both.items()}
    for role, instance in both.items():
        fault = changed(before[role], after[role])
        if fault:
            raise InstanceError(
                f"instance {instance.id} changed while it was asked: {fault}. Nothing was judged; "
                "repeat it when nobody converges or restarts engines"
            )
    own = {
        role: sum(one.tokens for one in (*warm[role], *single[role], *crowded[role][0]))
        for role in both
    }
    judged = _judged(wanted.judge, prompts, single, ask)
    return {
        "schema": SCHEMA,
        "prompts_sha256": prompts.sha256,
        "concurrency": wanted.concurrency,
        "judge": None if wanted.judge is None else _named(wanted.judge),
        "instances": {
            role: {
                **_named(instance),
                "identity": before[role].as_dict(),
                "own_tokens": own[role],
                # The judge may be one of them: it asks only after this count.
                "foreign_tokens": int(after[role].generated - before[role].generated) - own[role],
                "wall_seconds": crowded[role][1],
            }
            for role, instance in both.items()
        },
        "answers": [
            {
                "id": prompt.id,
                "preference": judged[position] if judged else None,
                **{
                    role: {
                        "single": single[role][position].as_dict(),
                        "crowded": crowded[role][0][position].as_dict(),
                    }
                    for role in both
                },
            }
            for position, prompt in enumerate(prompts.items)
        ],
    }


def _named(instance: Instance) -> dict[str, str]:
    return {"id": instance.id, "model": instance.model}


def _asked(ask: Ask, instance: Instance, prompt: Prompt) -> Answer:
    try:
        return ask(instance, prompt.messages, prompt.max_tokens)
    except InstanceError as error:
        raise InstanceError(f"prompt {prompt.id}: {error}") from None


def _one_by_one(
    both: Mapping[str, Instance], prompts: Prompts, ask: Ask
) -> dict[str, list[Answer]]:
    """Ask in turns, so that what disturbs the site disturbs both; each begins every other time."""
    answers: dict[str, list[Answer]] = {role: [] for role in both}
    for position, prompt in enumerate(prompts.items):
        order = list(both) if position % 2 == 0 else list(both)[::-1]
        for role in order:
            answers[role].append(_asked(ask, both[role], prompt))
    return answers


def _at_once(
    instance: Instance, prompts: Prompts, ask: Ask, concurrency: int
) -> tuple[list[Answer], float]:
    """Ask all prompts with so many at the same time; return the answers and the seconds."""
    began = time.monotonic()
    with ThreadPoolExecutor(concurrency) as pool:
        work = [pool.submit(_asked, ask, instance, prompt) for prompt in prompts.items]
        try:
            answers = [one.result() for one in work]
        except InstanceError:
            pool.shutdown(cancel_futures=True)
            raise
    return answers, time.monotonic() - began


def _judged(
    judge: Instance | None, prompts: Prompts, single: Mapping[str, Sequence[Answer]], ask: Ask
) -> list[dict[str, Any]]:
    if judge is None:
        return []
    found = []
    for position, prompt in enumerate(prompts.items):

        def say(asked: list[dict[str, str]], prompt: Prompt = prompt) -> str:
            try:
                return ask(judge, asked, TOKENS).text
            except InstanceError as error:
                raise InstanceError(f"judge on prompt {prompt.id}: {error}") from None

        reference, candidate = (single[role][position].text for role in single)
        winner, readable = preference(prompt, reference, candidate, say)
        found.append({"winner": winner, "readable": readable})
    return found
