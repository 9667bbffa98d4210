"""Ask one instance one prompt, and read its stream with the times at which its parts arrived."""

from __future__ import annotations

import json
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from ..api_check.client import Endpoint, Request, RequestFailed, Response, call
from .errors import InstanceError, shown

SEED: Final = 7
_PATH: Final = "/v1/chat/completions"
_SHOWN: Final = 300


@dataclass(frozen=True)
class Instance:
    """An engine instance: its name in the plan, where it listens, the model's name there."""

    id: str
    endpoint: Endpoint
    model: str


@dataclass(frozen=True)
class Answer:
    """A whole answer. Times are seconds since the connection began, TLS handshake included."""

    text: str
    tokens: int
    first: float
    total: float
    finish: str

    @property
    def per_token(self) -> float | None:
        """Return the seconds per token after the first one; None for an answer of one token."""
        return (self.total - self.first) / (self.tokens - 1) if self.tokens > 1 else None

    def as_dict(self) -> dict[str, Any]:
        """Return the fields for the file of answers."""
        return asdict(self)


def body(model: str, messages: Sequence[Mapping[str, str]], max_tokens: int) -> bytes:
    """Return the request: greedy, with a seed, as a stream that ends with its usage."""
    return json.dumps(
        {
            "model": model,
            "messages": list(messages),
            "max_tokens": max_tokens,
            "temperature": 0,
            "seed": SEED,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
    ).encode()


def ask(
    instance: Instance,
    messages: Sequence[Mapping[str, str]],
    max_tokens: int,
    context: ssl.SSLContext,
    timeout: float,
) -> Answer:
    """Return the whole answer of an instance.

    Raises:
        InstanceError: no connection, another status than 200, or a stream that is not whole.
    """
    content = body(instance.model, messages, max_tokens)
    try:
        response = call(
            instance.endpoint, Request("POST", _PATH, body=content, stream=True), context, timeout
        )
    except RequestFailed as error:
        raise InstanceError(f"instance {instance.id} does not answer: {error}") from None
    try:
        return read(response)
    except InstanceError as error:
        raise InstanceError(f"instance {instance.id}: {error}") from None


def read(response: Response) -> Answer:
    """Return the answer of a streamed response.

    Raises:
        InstanceError: the status is not 200, the stream reports an error or breaks off.
    """
    if response.status != 200:
        said = response.body[:_SHOWN].decode("utf-8", "replace")
        raise InstanceError(f"answered with HTTP {response.status}: {said}")
    parts: list[str] = []
    first, tokens, finish, done = 0.0, None, "", False
    for at, data in response.events:
        if data == "[DONE]":
            done = True
            continue
        event = _event(data)
        usage = event.get("usage")
        if isinstance(usage, dict):
            tokens = usage.get("completion_tokens")
        for choice in event.get("choices") or []:
            delta = choice.get("delta") or {}
            # What a reasoning model thinks is part of the time, and no part of the answer.
            if delta.get("content") or delta.get("reasoning") or delta.get("reasoning_content"):
                first = first or at
            parts.append(delta.get("content") or "")
            finish = choice.get("finish_reason") or finish
    if not done or not finish or not isinstance(tokens, int):
        lacks = [
            name
            for name, there in (
                ("its end", done), ("a finish_reason", finish), ("usage", isinstance(tokens, int))
            )
            if not there
        ]  # fmt: skip
        raise InstanceError(f"the stream broke off: it lacks {', '.join(lacks)}")
    last = response.events[-1][0]
    return Answer("".join(parts), tokens, first or last, last, finish)


def _event(data: str) -> dict[str, Any]:
    try:
        event = json.loads(data)
    except ValueError:
        event = None
    if not isinstance(event, dict):
        raise InstanceError(f"sent an event that is no JSON object: {shown(data)}")
    if event.get("error"):
        raise InstanceError(f"broke off with the error {shown(event['error'], _SHOWN)}")
    return event
