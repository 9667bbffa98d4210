"""Judge an evaluation: grade the answers, compare the pairs, and say what follows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from .checks import JUDGE, grade
from .errors import EvaluateError
from .figures import load, repeated, times
from .judge import CANDIDATE, REFERENCE
from .prompts import Prompt, Prompts
from .rouge import rouge_l
from .runner import SCHEMA as ANSWERS
from .statistics import BAD, GOOD, OPEN, bootstrap, mcnemar, pairs_needed, tango, verdict

SCHEMA: Final = "evaluation/v1"
WORST: Final = 10
_ROLES: Final = (REFERENCE, CANDIDATE)
_UNREADABLE: Final = 0.2
"""From this share of unreadable verdicts on, a judge does not understand its task."""


@dataclass(frozen=True)
class Bounds:
    """What the site wants, as shares.

    ``tolerance``: so much worse the candidate may be. ``confidence`` of the two-sided
    intervals; a verdict looks at one end, so it errs half as often as the rest.
    ``reference_minimum``: where the reference passes less, the prompts cannot tell anything.
    """

    tolerance: float = 0.05
    confidence: float = 0.9
    reference_minimum: float = 0.3


def evaluate(
    answers: Mapping[str, Any],
    prompts: Prompts,
    bounds: Bounds,
    *,
    memory: Mapping[str, Any],
    about: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the whole result.

    Args:
        memory: by the name of an instance the figures of ``memory.told``.
        about: what else belongs into the result, such as site and time.

    Raises:
        EvaluateError: the answers belong to other prompts, or are of another format.
    """
    if answers.get("schema") != ANSWERS or answers.get("prompts_sha256") != prompts.sha256:
        raise EvaluateError(
            f"the answers ({answers.get('schema')}, prompts {answers.get('prompts_sha256')}) do "
            f"not belong to these prompts ({ANSWERS}, {prompts.sha256}): ask again"
        )
    rows = [
        _row(prompt, entry) for prompt, entry in zip(prompts.items, answers["answers"], strict=True)
    ]
    checked = [row for row in rows if row["check"] != JUDGE]
    quality = _quality(checked, bounds) if checked else None
    judged = _judged(rows, bounds) if answers["judge"] is not None else None
    found, reasons = _together(quality, judged, bounds)
    return {
        "schema": SCHEMA,
        **about,
        "verdict": found,
        "reasons": reasons,
        "bounds": asdict(bounds),
        "prompts": {"count": len(rows), "sha256": prompts.sha256},
        "quality": quality,
        "judge": None if judged is None else {**answers["judge"], **judged},
        "groups": _groups(checked),
        "instances": {
            role: _instance(answers, role, memory.get(answers["instances"][role]["id"]) or {})
            for role in _ROLES
        },
        "concurrency": answers["concurrency"],
        "worst": worst(rows),
    }  # fmt: skip


def _row(prompt: Prompt, entry: Mapping[str, Any]) -> dict[str, Any]:
    if entry["id"] != prompt.id:
        raise EvaluateError(f"answer {entry['id']} stands where prompt {prompt.id} belongs")
    texts = {role: entry[role]["single"]["text"] for role in _ROLES}
    row: dict[str, Any] = {
        "id": prompt.id,
        "lang": prompt.lang,
        "kind": prompt.kind,
        "check": prompt.check["kind"],
        "question": prompt.question,
        "preference": entry["preference"],
        "similarity": rouge_l(texts[CANDIDATE], texts[REFERENCE]),
        **{f"{role}_text": text for role, text in texts.items()},
    }
    for role, text in texts.items():
        graded = None if prompt.check["kind"] == JUDGE else grade(prompt.check, text)
        row[f"{role}_score"] = None if graded is None else graded.score
        row[f"{role}_passed"] = None if graded is None else graded.passed
    return row


def _quality(rows: Sequence[Mapping[str, Any]], bounds: Bounds) -> dict[str, Any]:
    gains = sum(row["candidate_passed"] and not row["reference_passed"] for row in rows)
    losses = sum(row["reference_passed"] and not row["candidate_passed"] for row in rows)
    passed = {role: sum(row[f"{role}_passed"] for row in rows) for role in _ROLES}
    interval = tango(gains, losses, len(rows), bounds.confidence)
    said = verdict(interval, bounds.tolerance)
    enough = passed[REFERENCE] / len(rows) >= bounds.reference_minimum
    scores = [row["candidate_score"] - row["reference_score"] for row in rows]
    return {
        "verdict": said if enough or said == BAD else OPEN,
        "reference_enough": enough,
        "prompts": len(rows),
        "passed": passed,
        "gains": gains,
        "losses": losses,
        "difference": asdict(interval),
        "mcnemar_p": mcnemar(gains, losses),
        "score_difference": asdict(bootstrap(scores, bounds.confidence)),
        "prompts_needed": pairs_needed(
            gains, losses, len(rows), bounds.tolerance, bounds.confidence
        )
        if said == OPEN
        else len(rows),
    }


def _judged(rows: Sequence[Mapping[str, Any]], bounds: Bounds) -> dict[str, Any]:
    winners = [row["preference"]["winner"] for row in rows]
    wins, losses = winners.count(CANDIDATE), winners.count(REFERENCE)
    unreadable = sum(not row["preference"]["readable"] for row in rows)
    interval = tango(wins, losses, len(rows), bounds.confidence)
    usable = unreadable <= _UNREADABLE * len(rows)
    return {
        "verdict": verdict(interval, bounds.tolerance) if usable else OPEN,
        "usable": usable,
        "prompts": len(rows),
        "wins": wins,
        "losses": losses,
        "ties": len(rows) - wins - losses,
        "unreadable": unreadable,
        "difference": asdict(interval),
    }


def _together(
    quality: Mapping[str, Any] | None, judged: Mapping[str, Any] | None, bounds: Bounds
) -> tuple[str, list[str]]:
    """Return the verdict of all parts, the worst one, with a sentence for each."""
    reasons = [
        *([_quality_reason(quality, bounds)] if quality else []),
        *([_judge_reason(judged, bounds)] if judged else []),
    ]
    verdicts = [part["verdict"] for part in (quality, judged) if part]
    if not verdicts:
        return OPEN, ["no prompt has a check that a machine can tell, and no judge was asked"]
    found = next(one for one in (BAD, OPEN, GOOD) if one in verdicts)
    return found, reasons


def _percent(share: float) -> str:
    return f"{100 * share:+.1f} %"


def _spread(interval: Mapping[str, float], bounds: Bounds) -> str:
    return (
        f"{_percent(interval['estimate'])} ({100 * bounds.confidence:g} % interval "
        f"{_percent(interval['low'])} to {_percent(interval['high'])})"
    )


def _quality_reason(part: Mapping[str, Any], bounds: Bounds) -> str:
    passed, count = part["passed"], part["prompts"]
    text = (
        f"checks: the reference passes {passed[REFERENCE]} of {count}, the candidate "
        f"{passed[CANDIDATE]}; difference {_spread(part['difference'], bounds)}, tolerated "
        f"-{100 * bounds.tolerance:g} %"
    )
    if not part["reference_enough"]:
        text += (
            f"; the reference itself passes less than {100 * bounds.reference_minimum:g} %, so "
            "these prompts are too hard for this model to show what is lost"
        )
    elif part["verdict"] == OPEN:
        needed = part["prompts_needed"]
        text += (
            f"; {count} prompts cannot tell, about {needed} like these would"
            if needed
            else f"; {count} prompts cannot tell, the difference lies at the tolerance"
        )
    return text


def _judge_reason(part: Mapping[str, Any], bounds: Bounds) -> str:
    text = (
        f"judge: candidate better {part['wins']}, worse {part['losses']}, tie {part['ties']} of "
        f"{part['prompts']}; difference {_spread(part['difference'], bounds)}"
    )
    if not part["usable"]:
        text += f"; {part['unreadable']} verdicts could not be read: take another judge"
    elif part["verdict"] == OPEN:
        text += f"; {part['prompts']} prompts cannot tell"
    return text


def _groups(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    keys = sorted({(row["kind"], row["lang"]) for row in rows})
    groups = []
    for kind, lang in keys:
        own = [row for row in rows if (row["kind"], row["lang"]) == (kind, lang)]
        groups.append(
            {
                "kind": kind,
                "lang": lang,
                "prompts": len(own),
                **{role: sum(row[f"{role}_passed"] for row in own) for role in _ROLES},
            }
        )
    return groups


def _instance(
    answers: Mapping[str, Any], role: str, memory: Mapping[str, Any]
) -> dict[str, Any]:  # fmt: skip
    own = [entry[role] for entry in answers["answers"]]
    told = answers["instances"][role]
    return {
        **{key: told[key] for key in ("id", "model", "identity", "own_tokens", "foreign_tokens")},
        "cut_answers": sum(one["single"]["finish"] == "length" for one in own),
        "alone": times([one["single"] for one in own]),
        "at_once": {
            **times([one["crowded"] for one in own]),
            **load([one["crowded"] for one in own], told["wall_seconds"]),
        },
        "repeats_itself": repeated(own),
        "memory": dict(memory),
    }


def worst(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the ten rows where the candidate falls behind most; equal texts are none.

    First lost checks, then lost judgements, then what is least alike.
    """
    differing = [row for row in rows if row["reference_text"] != row["candidate_text"]]

    def behind(row: Mapping[str, Any]) -> tuple[float, float, float]:
        lost = (row["reference_score"] or 0.0) - (row["candidate_score"] or 0.0)
        lost += bool(row["reference_passed"]) - bool(row["candidate_passed"])
        said = (row["preference"] or {}).get("winner")
        return (-lost, -float(said == REFERENCE) + float(said == CANDIDATE), row["similarity"])

    return [dict(row) for row in sorted(differing, key=behind)[:WORST]]
