"""The question to an engine, what its answer means, and whether the engine moves at all."""

from __future__ import annotations

import enum
import json
import re
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from tresor.api_check.client import Request, RequestFailed, TimedOut, call

if TYPE_CHECKING:
    from tresor_engine_watchdog.config import Instance

_QUESTIONS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "chat": ("/v1/completions", {"prompt": "ping", "max_tokens": 1, "temperature": 0}),
    "embedding": ("/v1/embeddings", {"input": "ping"}),
    "rerank": ("/v1/rerank", {"query": "ping", "documents": ["pong"]}),
}
TASKS: Final = tuple(_QUESTIONS)
_MOVES: Final = (
    "vllm:prompt_tokens_total",
    "vllm:generation_tokens_total",
    "vllm:iteration_tokens_total_count",
    "vllm:prefix_cache_queries_total",
    "vllm:kv_cache_usage_perc",
    "vllm:num_requests_running",
    "vllm:num_requests_waiting",
)
"""All of them are told by the process that computes, with every step it makes. Not those that the
HTTP side counts, as `vllm:request_success_total`: they move when clients give up on a hang."""
_WORKED: Final = ("vllm:prompt_tokens_total", "vllm:generation_tokens_total")
_SAMPLE: Final = re.compile(r"^(vllm:[a-z_]+)(?:\{[^}]*\})? ([0-9.eE+-]+)$", re.MULTILINE)
_CLIENT_ERRORS: Final = range(400, 500)


class Answer(enum.Enum):
    """What a question showed.

    GIVEN: a real answer. AWAY: nobody listens, or nothing can be asked; that is systemd's business.
    SILENT: no answer in time, or an engine that says it cannot.
    """

    GIVEN = "given"
    AWAY = "away"
    SILENT = "silent"


@dataclass(frozen=True)
class Asked:
    """What a question showed, and why."""

    answer: Answer
    detail: str = ""


@dataclass(frozen=True)
class Moves:
    """What an engine's metrics tell: figures that change when it computes, and if it ever did."""

    figures: tuple[tuple[str, float], ...]
    worked: bool


def ask(instance: Instance, context: ssl.SSLContext, timeout: float) -> Asked:
    """Ask for one token (or one vector, one ranking).

    A refused question (4xx, but not 429) is no sign of a hang: another engine than the plan's
    answers, or its rules changed. An engine without room (429, 503) may be busy or hang.
    """
    path, body = _QUESTIONS[instance.task]
    data = json.dumps({"model": instance.model, **body}).encode()
    try:
        status = call(instance.endpoint, Request("POST", path, body=data), context, timeout).status
    except TimedOut:
        return Asked(Answer.SILENT, f"no answer to {path} within {timeout:g} s")
    except RequestFailed as error:
        return Asked(Answer.AWAY, str(error))
    if status == 200:
        return Asked(Answer.GIVEN)
    kind = Answer.AWAY if status in _CLIENT_ERRORS and status != 429 else Answer.SILENT
    return Asked(kind, f"{path} answered with HTTP {status}")


def metrics_text(instance: Instance, context: ssl.SSLContext, timeout: float) -> str | None:
    """Return the engine's metrics, None if it gives none in time."""
    try:
        answer = call(instance.endpoint, Request("GET", "/metrics"), context, timeout)
    except RequestFailed:
        return None
    return answer.body.decode("utf-8", "replace") if answer.status == 200 else None


def moves(text: str | None) -> Moves | None:
    """Return what metrics tell about the engine's steps; None without any of them."""
    sums: dict[str, float] = {}
    for name, value in _SAMPLE.findall(text or ""):
        if name in _MOVES:
            sums[name] = sums.get(name, 0.0) + float(value)
    if not sums:
        return None
    return Moves(tuple(sorted(sums.items())), any(sums.get(name, 0) > 0 for name in _WORKED))
