"""The result as one page of Markdown, for a ticket, a merge request or a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from ..placement.markdown import cell
from .statistics import BAD, GOOD, OPEN

_SAYS: Final = {
    GOOD: "good enough",
    BAD: "not good enough",
    OPEN: "cannot tell",
}
_CUT: Final = 600
_QUIET: Final = 0.02
"""Up to this share of foreign tokens nobody disturbed: the gateway's probes take one each."""
_TIMES: Final = {
    "first_token": "first token",
    "per_token": "each further token",
    "whole_answer": "whole answer",
}
_MEMORY: Final = {
    "weights_gib": "weights, GiB per device",
    "kv_gib": "room for the KV cache, GiB per device",
    "kv_tokens": "KV cache, tokens",
    "max_concurrency": "longest requests at once",
}


def page(result: Mapping[str, Any]) -> str:
    """Return the page; every text of a model or a site is escaped."""
    reference, candidate = (result["instances"][role] for role in ("reference", "candidate"))
    lines = [
        f"# {cell(candidate['id'])} in place of {cell(reference['id'])}: "
        f"{_SAYS[result['verdict']]}",
        "",
        f"Site {cell(result['site'])}, {cell(result['finished'])}. "
        f"{result['prompts']['count']} prompts (`{result['prompts']['sha256'][:12]}`), "
        "greedy, fixed seed.",
        "",
        *(f"- {cell(reason)}" for reason in result["reasons"]),
        *(f"- {text}" for text in _remarks(result)),
        "",
        "## Quality",
        "",
        *_quality(result),
        "## Cost",
        "",
        *_table(["", "reference", "candidate"], _cost(reference, candidate, result["concurrency"])),
        "",
        "Times in seconds, TLS handshake included. Memory is what each engine says of itself.",
        "",
        "## Worst differences",
        "",
        *_worst(result["worst"]),
    ]
    return "\n".join(lines).rstrip() + "\n"


def _remarks(result: Mapping[str, Any]) -> Iterable[str]:
    for role, one in result["instances"].items():
        if one["foreign_tokens"] > _QUIET * one["own_tokens"]:
            yield (
                f"others took {one['foreign_tokens']} tokens from the {role} meanwhile, beside "
                f"{one['own_tokens']} of this evaluation: its times are too high"
            )
        if one["cut_answers"]:
            yield f"{one['cut_answers']} answers of the {role} were cut at max_tokens"
    noise = result["instances"]["reference"]["repeats_itself"]
    yield (
        f"asked again among {result['concurrency']}, the reference repeats {100 * noise:.0f} % of "
        "its answers to the letter: differences below that are noise"
    )


def _quality(result: Mapping[str, Any]) -> list[str]:
    rows = [
        (one["kind"], one["lang"], one["prompts"], one["reference"], one["candidate"])
        for one in result["groups"]
    ]
    lines = [*_table(["kind", "language", "prompts", "reference", "candidate"], rows), ""]
    part = result["quality"]
    if part is not None:
        score = part["score_difference"]
        lines += [
            f"Only the candidate passes {part['gains']}, only the reference {part['losses']} "
            f"(exact McNemar p = {part['mcnemar_p']:.3g}). Mean score {score['estimate']:+.3f} "
            f"(bootstrap {score['low']:+.3f} to {score['high']:+.3f}).",
            "",
        ]
    if result["judge"] is not None:
        lines += [
            f"Judge: {cell(result['judge']['id'])}, both orders, "
            f"{result['judge']['unreadable']} verdicts not readable.",
            "",
        ]
    return lines


def _cost(
    reference: Mapping[str, Any], candidate: Mapping[str, Any], concurrency: int
) -> list[Sequence[object]]:
    rows: list[Sequence[object]] = []
    for load, title in (("alone", "alone"), ("at_once", f"{concurrency} at once")):
        for name, what in _TIMES.items():
            for share in ("p50", "p95"):
                pair = [_round(one[load][name][share]) for one in (reference, candidate)]
                rows.append((f"{what}, {title}, {share}", *pair))
    pair = [round(o["at_once"]["output_tokens_per_second"], 1) for o in (reference, candidate)]
    rows.append((f"output tokens per second, {concurrency} at once", *pair))
    for name, what in _MEMORY.items():
        rows.append((what, *(one["memory"].get(name) for one in (reference, candidate))))
    both = [one["memory"].get("weights_predicted_gib") for one in (reference, candidate)]
    rows.append(("weights as the plan predicts, GiB per device", *both))
    return rows


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _worst(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    if not rows:
        return ["Both gave the same answers."]
    lines: list[str] = []
    for row in rows:
        said = (row["preference"] or {}).get("winner")
        lines += [
            f"### {cell(row['id'])} ({cell(row['kind'])}, {cell(row['lang'])})",
            "",
            f"Check {row['check']}: reference {_mark(row['reference_passed'])}, candidate "
            f"{_mark(row['candidate_passed'])}" + (f"; judge: {said}" if said else "") + ".",
            "",
            *_quoted("Question", row["question"]),
            *_quoted("Reference", row["reference_text"]),
            *_quoted("Candidate", row["candidate_text"]),
        ]
    return lines


def _mark(passed: bool | None) -> str:
    return "-" if passed is None else "passes" if passed else "fails"


def _quoted(title: str, text: str) -> list[str]:
    cut = text if len(text) <= _CUT else f"{text[:_CUT]} ..."
    return [f"> **{title}:** {cell(cut)}", ""]


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    body = ["| " + " | ".join(cell(value) for value in row) + " |" for row in rows]
    return ["| " + " | ".join(head) + " |", "|" + "---|" * len(head), *body] if body else []
