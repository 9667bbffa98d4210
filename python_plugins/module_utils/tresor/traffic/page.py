"""The report as one page of Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from ..placement.markdown import cell

_HOW: Final = (
    "GPU time of a model is the time in which its engines had at least one request, times their "
    "GPUs; a GPU that engines share counts in parts, an engine on the CPU as one device. It is "
    "told from the audit records' times, which begin at the gateway and so are a little too long. "
    "An engine's time is divided over its requests by their tokens, prompt and answer alike.",
    "What the largest model would have taken is the tokens that moved, times its own GPU time per "
    "token. That assumes it would have read and written as many tokens, and that more load would "
    "not have changed its time per token: a batched engine gets cheaper per token under load, so "
    "the saving is rather too high than too low where the largest model was idle most of the time.",
    "Questions of the gateway to engines and to classifiers are in no record, so not in here. An "
    "alias is counted as its model. A request that a route failed over counts at the model and "
    "engine that answered.",
)


def page(result: Mapping[str, Any], site: str) -> str:
    """Return the page."""
    lines = [
        f"# Traffic of {cell(site)}, {result['since']} to {result['until']}",
        "",
        *(f"- {text}" for text in summary(result)),
        *(f"- {cell(text)}" for text in _remarks(result)),
        "",
    ]
    if result["requests"]:
        lines += [
            "## Asked and answered",
            "",
            *_table(
                ["asked", "answered by", "class", "requests", "share", "prompt tokens",
                 "output tokens", "share of tokens", "GPU time"],
                (_asked(row) for row in result["asked"]),
            ),
            "",
            "Shares are of what was asked by that name.",
            "",
            "## Classes",
            "",
            *_table(
                ["class", "requests", "share", "prompt tokens", "output tokens", "share of tokens"],
                (_class(row) for row in result["classes"]),
            ),
            "",
            "## Models",
            "",
            *_table(
                ["model", "class", "requests", "tokens", "time with work", "requests at once",
                 "GPU time", "GPU ms per token"],
                (_model(row) for row in result["models"]),
            ),
            "",
        ]  # fmt: skip
    lines += ["## How this is told", "", *(f"{text}\n" for text in _HOW)]
    return "\n".join(lines).rstrip() + "\n"


def summary(result: Mapping[str, Any]) -> list[str]:
    """Return what moved, a sentence each."""
    moved = result["moved"]
    if not result["requests"]:
        return ["No request reached an engine in this period: there is nothing to tell."]
    if moved["largest"] is None:
        return ["The plan has no chat model, so nothing could move."]
    if not moved["routed"]["requests"]:
        return ["No request asked for a route: nothing moved."]
    said = [
        f"{moved['requests']} of {moved['routed']['requests']} requests to a route "
        f"({_percent(moved['share_of_requests'])}) and {_percent(moved['share_of_tokens'])} of "
        f"their tokens went to other models than {moved['largest']}, the largest."
    ]
    if moved["saved_device_seconds"] is not None:
        sources = ", ".join(f"{name} {how}" for name, how in sorted(moved["sources"].items()))
        said.append(
            f"They took {_time(moved['device_seconds'])} of GPU time{_of_all(moved)}; "
            f"{moved['largest']} would have taken {_time(moved['device_seconds_on_largest'])}: "
            f"{_saved(moved)} (GPU time per token: {sources})."
        )
    elif moved["unknown"]:
        said.append("What that saved in GPU time cannot be told.")
    return said


def _of_all(moved: Mapping[str, Any]) -> str:
    share = moved["share_of_device_seconds"]
    return "" if share is None else f", {_percent(share)} of what all chat models took"


def _saved(moved: Mapping[str, Any]) -> str:
    saved = moved["saved_device_seconds"]
    share = _percent(abs(saved) / moved["device_seconds_on_largest"])
    return f"{_time(abs(saved))} {'saved' if saved >= 0 else 'lost'}, {share}"


def _remarks(result: Mapping[str, Any]) -> Iterable[str]:
    yield from result["moved"]["unknown"]
    for row in result["models"]:
        if row["requests"] and row["why"]:
            yield f"{row['model']}: {row['why']}"
        if row["requests"] and not row["known"]:
            yield f"{row['model']} is no model of the plan any more"
    if result["uncounted"]:
        yield f"{result['uncounted']} requests have no tokens: they broke off, or failed"
    if result["unreadable"]:
        yield f"{result['unreadable']} records of the audit log made no sense: verify its chain"
    yield from result["problems"]


def _asked(row: Mapping[str, Any]) -> Sequence[object]:
    return (
        row["asked"] + (" (route)" if row["route"] else ""),
        row["model"],
        row["class"],
        row["requests"],
        _percent(row["share_of_requests"]),
        row["prompt_tokens"],
        row["completion_tokens"],
        _percent(row["share_of_tokens"]),
        _time(row["device_seconds"]),
    )


def _class(row: Mapping[str, Any]) -> Sequence[object]:
    return (
        row["class"],
        row["requests"],
        _percent(row["share_of_requests"]),
        row["prompt_tokens"],
        row["completion_tokens"],
        _percent(row["share_of_tokens"]),
    )


def _model(row: Mapping[str, Any]) -> Sequence[object]:
    rate = row["device_seconds_per_token"]
    return (
        row["model"],
        row["class"],
        row["requests"],
        row["tokens"],
        _time(row["busy_seconds"]),
        f"{row['concurrency']:.1f}",
        _time(row["device_seconds"]) + ("" if row["on_gpu"] else " (CPU)"),
        "not known" if rate is None else f"{1000 * rate:.3g}",
    )


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "not known"
    return f"{seconds / 3600:.2f} h" if seconds >= 3600 else f"{seconds:.1f} s"


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    body = ["| " + " | ".join(cell(value) for value in row) + " |" for row in rows]
    return ["| " + " | ".join(head) + " |", "|" + "---|" * len(head), *body]
