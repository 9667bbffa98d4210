"""Say whether an answer of the API is the one that had to come. Pure functions."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Collection, Sequence
from typing import Any

from .client import Response

Verdict = tuple[bool, str]
"""Whether the answer is right, and what was seen, for the report."""

_EXCERPT = 160
MIN_GAP = 0.002
"""Seconds between two events that count as "time between": above the jitter of one buffer."""


def refused(response: Response, statuses: Collection[int], *, shaped: bool) -> Verdict:
    """Judge a refusal: the status, OpenAI's error shape, and that no engine answered itself.

    A 404 of vLLM's own would mean that the request came through to it.
    """
    seen = f"HTTP {response.status}"
    if response.status not in statuses:
        return False, f"{seen} {_excerpt(response.body)}"
    if from_engine(response):
        return False, f"{seen}, answered by the engine behind the gateway"
    if shaped and not is_error_shape(response.json()):
        return False, f"{seen} without OpenAI's error shape: {_excerpt(response.body)}"
    return True, seen


def from_engine(response: Response) -> bool:
    """Tell whether vLLM's own web server wrote the answer."""
    if "uvicorn" in response.headers.get("server", "").lower():
        return True
    body = response.json()
    return isinstance(body, dict) and set(body) == {"detail"}


def is_error_shape(body: object) -> bool:
    """Tell whether the body is {"error": {"message": str, "type": str, ...}}."""
    if not isinstance(body, dict) or not isinstance(body.get("error"), dict):
        return False
    error = body["error"]
    return isinstance(error.get("message"), str) and isinstance(error.get("type"), str)


def model_list(response: Response, names: Collection[str], other_names: Collection[str]) -> Verdict:
    """Judge /v1/models: every allowed model, and nothing else but its aliases."""
    if response.status != 200:
        return False, f"HTTP {response.status} {_excerpt(response.body)}"
    listed = listed_models(response)
    if listed is None:
        return False, f"HTTP 200 without a model list: {_excerpt(response.body)}"
    missing = sorted(set(names) - listed)
    extra = sorted(listed - set(names) - set(other_names))
    if missing or extra:
        return False, f"listed {sorted(listed)}; missing {missing}, not allowed {extra}"
    return True, f"listed {sorted(listed)}"


def no_models(response: Response) -> Verdict:
    """Judge /v1/models for someone without rights: refused, or an empty list."""
    if response.status == 403:
        return refused(response, {403}, shaped=True)
    if response.status == 200 and listed_models(response) == set():
        return True, "HTTP 200 with an empty list"
    return False, f"HTTP {response.status} {_excerpt(response.body)}"


def listed_models(response: Response) -> set[str] | None:
    """Return the ids of a model list, None if the body is none."""
    body = response.json()
    if not isinstance(body, dict) or not isinstance(body.get("data"), list):
        return None
    items = body["data"]
    if not all(isinstance(item, dict) and isinstance(item.get("id"), str) for item in items):
        return None
    return {item["id"] for item in items}


def chat_answer(response: Response) -> Verdict:
    """Judge a complete chat answer: it has a text."""
    return _text(response, lambda choice: choice["message"]["content"])


def text_answer(response: Response) -> Verdict:
    """Judge a complete text completion."""
    return _text(response, lambda choice: choice["text"])


def embedding_answer(response: Response) -> Verdict:
    """Judge an embeddings answer: a vector of numbers."""
    if response.status != 200:
        return False, f"HTTP {response.status} {_excerpt(response.body)}"
    try:
        body: Any = response.json()
        vector = body["data"][0]["embedding"]
        size = len([number for number in vector if isinstance(number, (int, float))])
    except (KeyError, IndexError, TypeError):
        return False, f"HTTP 200 without a vector: {_excerpt(response.body)}"
    return size > 0 and size == len(vector), f"HTTP 200, vector of {size} numbers"


def rerank_answer(response: Response, documents: int) -> Verdict:
    """Judge a reranker's answer: every document once, each with a score."""
    if response.status != 200:
        return False, f"HTTP {response.status} {_excerpt(response.body)}"
    try:
        body: Any = response.json()
        scores = {entry["index"]: float(entry["relevance_score"]) for entry in body["results"]}
    except (KeyError, TypeError, ValueError):
        return False, f"HTTP 200 without scores: {_excerpt(response.body)}"
    return sorted(scores) == list(range(documents)), f"HTTP 200, {len(scores)} scores"


def streamed_answer(response: Response) -> Verdict:
    """Judge a stream: several pieces of text, time between them, a proper end."""
    if response.status != 200:
        return False, f"HTTP {response.status} {_excerpt(response.body)}"
    times = [seconds for seconds, data in response.events if _delta(data)]
    ended = bool(response.events) and response.events[-1][1] == "[DONE]"
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    apart = sum(1 for gap in gaps if gap >= MIN_GAP)
    seen = f"{len(times)} pieces of text, {apart} pauses between them"
    if not ended:
        return False, f"{seen}, no [DONE] at the end"
    return len(times) > 1 and apart > 0, seen


def request_ids(ids: Sequence[str | None]) -> Verdict:
    """Judge that every answer carried a request id of its own."""
    missing = sum(1 for value in ids if not value)
    distinct = len({value for value in ids if value})
    seen = f"{len(ids)} answers, {missing} without an id, {distinct} distinct ids"
    return bool(ids) and missing == 0 and distinct == len(ids), seen


def _text(response: Response, pick: Callable[[Any], object]) -> Verdict:
    if response.status != 200:
        return False, f"HTTP {response.status} {_excerpt(response.body)}"
    try:
        body: Any = response.json()
        text = pick(body["choices"][0])
    except (KeyError, IndexError, TypeError):
        return False, f"HTTP 200 without an answer: {_excerpt(response.body)}"
    if not isinstance(text, str) or not text.strip():
        return False, "HTTP 200 with an empty text"
    return True, f"HTTP 200, {len(text)} characters in {response.seconds:.2f} s"


def _delta(data: str) -> str:
    """Return the text of one streamed chunk, empty if it carries none."""
    try:
        text = json.loads(data)["choices"][0]["delta"].get("content")
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        return ""
    return text if isinstance(text, str) else ""


def _excerpt(body: bytes) -> str:
    text = body[: 4 * _EXCERPT].decode("utf-8", "replace")
    return " ".join(text.split())[:_EXCERPT]
