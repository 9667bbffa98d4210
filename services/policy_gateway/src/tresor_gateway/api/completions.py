"""Answers of chat and text completions, typed: what is not here does not reach a client."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import UNSET, Struct, UnsetType

from tresor_gateway.api.answers import Usage


class FunctionText(Struct, gc=False):
    """A call of a function, whole or a piece of it."""

    name: str | UnsetType | None = UNSET
    arguments: str | UnsetType | None = UNSET


class ToolCallText(Struct, gc=False):
    """A tool call, whole or a piece of it."""

    index: int | UnsetType = UNSET
    id: str | UnsetType | None = UNSET
    type: str | UnsetType | None = UNSET
    function: FunctionText | UnsetType | None = UNSET


class Text(Struct, gc=False):
    """A message, whole or a piece of it."""

    role: str | UnsetType | None = UNSET
    content: str | UnsetType | None = UNSET
    reasoning: str | UnsetType | None = UNSET
    reasoning_content: str | UnsetType | None = UNSET
    refusal: str | UnsetType | None = UNSET
    tool_calls: list[ToolCallText] | UnsetType | None = UNSET


class TokenLogprob(Struct, gc=False):
    """A token with its probability and those of its rivals."""

    token: str
    logprob: float | None = None
    bytes: list[int] | UnsetType | None = UNSET
    top_logprobs: list[Any] | UnsetType | None = UNSET


class Logprobs(Struct, gc=False):
    """The probabilities of a chat answer's tokens."""

    content: list[TokenLogprob] | UnsetType | None = UNSET


class Choice(Struct, gc=False):
    """One of the answers, whole or a piece of it."""

    index: int
    message: Text | UnsetType = UNSET
    delta: Text | UnsetType = UNSET
    logprobs: Logprobs | UnsetType | None = UNSET
    finish_reason: str | UnsetType | None = UNSET
    stop_reason: str | int | UnsetType | None = UNSET


class PlainLogprobs(Struct, gc=False):
    """The probabilities of a text completion's tokens, column by column."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[Any] | UnsetType | None = UNSET
    text_offset: list[int] | UnsetType = UNSET


class PlainChoice(Struct, gc=False):
    """One of the texts of a text completion, whole or a piece of it."""

    index: int
    text: str | UnsetType | None = UNSET
    logprobs: PlainLogprobs | UnsetType | None = UNSET
    finish_reason: str | UnsetType | None = UNSET
    stop_reason: str | int | UnsetType | None = UNSET


class _Envelope(Struct, kw_only=True, gc=False):
    id: str | UnsetType = UNSET
    object: str | UnsetType = UNSET
    created: int | UnsetType = UNSET
    model: str | UnsetType = UNSET
    usage: Usage | UnsetType | None = UNSET
    system_fingerprint: str | UnsetType | None = UNSET
    service_tier: str | UnsetType | None = UNSET


class ChatAnswer(_Envelope, kw_only=True):
    """A chat completion or a chunk of one."""

    choices: list[Choice]


class PlainAnswer(_Envelope, kw_only=True):
    """A text completion or a chunk of one."""

    choices: list[PlainChoice]


CHAT: Final = msgspec.json.Decoder(ChatAnswer)
PLAIN: Final = msgspec.json.Decoder(PlainAnswer)
ENCODER: Final = msgspec.json.Encoder()


def with_text(answer: ChatAnswer | PlainAnswer, text: str) -> ChatAnswer | PlainAnswer:
    """A copy of a chunk with one choice, and another text in it."""
    choice = answer.choices[0]
    if isinstance(choice, PlainChoice):
        changed: Any = msgspec.structs.replace(choice, text=text)
    elif isinstance(choice.delta, Text):
        delta = msgspec.structs.replace(choice.delta, content=text)
        changed = msgspec.structs.replace(choice, delta=delta)
    else:
        changed = choice
    return msgspec.structs.replace(answer, choices=[changed])
