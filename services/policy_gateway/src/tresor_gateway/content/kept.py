"""One request whose content is kept: what was asked, what was answered, and the wait for both.

``masked`` is what the model saw, and the answer before values were put back into it; ``full`` is
what the client sent and got.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec
from msgspec import UNSET

from tresor_gateway.answering import Answering
from tresor_gateway.api import errors
from tresor_gateway.api.cleaning import AnswerError, decode
from tresor_gateway.api.completions import Choice, FunctionText, PlainChoice, Text
from tresor_gateway.api.errors import ApiError
from tresor_gateway.audit import record as records
from tresor_gateway.content.crypto import Owner
from tresor_gateway.content.policy import Kept
from tresor_gateway.content.writer import ContentWriter, Entry
from tresor_gateway.guardrails.pipeline import Guard
from tresor_gateway.http.exchange import Exchange
from tresor_gateway.upstream.forward import Forward

MAX_BYTES: Final = 32 << 20
_DATA: Final = b"data:"
_TEXTS: Final = ("content", "reasoning", "reasoning_content", "refusal")
_ENCODER: Final = msgspec.json.Encoder()


class Keeper:
    """Collects what a request leaves, and gives it to the writer with the record."""

    __slots__ = ("_answer", "_chat", "_guard", "_kept", "_request", "_size", "_writer")

    def __init__(
        self, writer: ContentWriter, kept: Kept, request: bytes, guard: Guard, *, chat: bool
    ) -> None:
        """``request`` is JSON: the engine's for ``masked``, the client's for ``full``."""
        self._writer = writer
        self._kept = kept
        self._request = request
        self._guard = guard
        self._chat = chat
        self._answer: list[bytes] = []
        self._size = len(request)

    def add(self, data: bytes) -> None:
        """Whole events of an answer, or a whole answer.

        Raises:
            ApiError: it is more than can be kept.
        """
        self._size += len(data)
        if self._size > MAX_BYTES:
            raise errors.content_unavailable()
        self._answer.append(data)

    def keep(
        self, record: records.Decision, done: Callable[[records.ContentRef | None], None]
    ) -> None:
        """Hand over; ``done`` hears where it is, or that it could not be kept."""
        owner = Owner(record.time[:10], record.subject)
        self._writer.keep(
            Entry(owner, record.id, self._kept, lambda: self._text(record), self._size, done)
        )

    def _text(self, record: records.Decision) -> bytes:
        content: dict[str, Any] = {
            "v": 1,
            "record": record.id,
            "request_id": record.request_id,
            "time": record.time,
            "endpoint": record.endpoint,
            "model": record.model,
            "kept": self._kept,
            "request": msgspec.Raw(self._request),
        }
        if self._answer:
            conceal = self._guard.placeholders.conceal if self._kept == "masked" else _same
            content["answer"] = {"choices": answer_of(self._answer, conceal, chat=self._chat)}
        return _ENCODER.encode(content)


class Tap:
    """Stands before a call and remembers what passes; the call does not notice."""

    __slots__ = ("_call", "_keeper")

    def __init__(self, call: Answering, keeper: Keeper) -> None:
        self._call = call
        self._keeper = keeper

    @property
    def exchange(self) -> Exchange:
        """The request that is answered."""
        return self._call.exchange

    @property
    def forward(self) -> Forward | None:
        """The request on its way to an engine."""
        return self._call.forward

    @property
    def streaming(self) -> bool:
        """Whether a stream has been opened."""
        return self._call.streaming

    def stream_data(self, data: bytes) -> None:
        """Whole events."""
        try:
            self._keeper.add(data)
        except ApiError as error:
            if self.forward is not None:
                self.forward.cancel()
            self.stream_cut(error)
            return
        self._call.stream_data(data)

    def stream_end(self) -> None:
        """The stream is complete."""
        self._call.stream_end()

    def stream_cut(self, error: ApiError) -> None:
        """The stream is incomplete."""
        if self._call.streaming:
            self._call.stream_cut(error)
        else:
            self._call.refuse(error)

    def answer(self, body: bytes) -> None:
        """A complete answer."""
        try:
            self._keeper.add(body)
        except ApiError as error:
            self._call.refuse(error)
            return
        self._call.answer(body)

    def refuse(self, error: ApiError) -> None:
        """No answer, by our own decision."""
        self._call.refuse(error)

    def refused(self, error: ApiError) -> None:
        """No answer."""
        self._call.refused(error)


def answer_of(
    parts: list[bytes], conceal: Callable[[str], str], *, chat: bool
) -> list[dict[str, Any]]:
    """The texts of an answer by choice, put together when it came in events."""
    found: dict[int, dict[str, Any]] = {}
    for payload in _payloads(parts):
        try:
            choices = decode(payload, chat=chat).choices
        except AnswerError:
            # The client got it, so it is kept as it came.
            found.setdefault(-1, {"unread": ""})["unread"] += payload.decode("utf-8", "replace")
            continue
        for choice in choices:
            _add(found.setdefault(choice.index, {"index": choice.index}), choice)
    return [_concealed(found[index], conceal) for index in sorted(found)]


def _payloads(parts: list[bytes]) -> list[bytes]:
    data = b"".join(parts)
    if not data.startswith(_DATA):
        return [data]
    return [event[len(_DATA) :].strip() for event in data.split(b"\n\n") if event.startswith(_DATA)]


def _add(entry: dict[str, Any], choice: Choice | PlainChoice) -> None:
    if isinstance(choice.finish_reason, str):
        entry["finish_reason"] = choice.finish_reason
    if isinstance(choice, PlainChoice):
        if isinstance(choice.text, str):
            entry["text"] = entry.get("text", "") + choice.text
        return
    message = choice.message if isinstance(choice.message, Text) else choice.delta
    if not isinstance(message, Text):
        return
    for name in _TEXTS:
        value = getattr(message, name)
        if isinstance(value, str):
            entry[name] = entry.get(name, "") + value
    if isinstance(message.tool_calls, list):
        calls = entry.setdefault("tool_calls", {})
        for position, call in enumerate(message.tool_calls):
            number = position if call.index is UNSET else call.index
            known = calls.setdefault(str(number), {"name": "", "arguments": ""})
            if isinstance(call.function, FunctionText):
                for name in known:
                    value = getattr(call.function, name)
                    known[name] += value if isinstance(value, str) else ""


def _concealed(value: Any, conceal: Callable[[str], str]) -> Any:  # noqa: ANN401 - JSON
    if isinstance(value, str):
        return conceal(value)
    if isinstance(value, dict):
        return {name: _concealed(item, conceal) for name, item in value.items()}
    return value


def _same(text: str) -> str:
    return text
