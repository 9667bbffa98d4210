"""Answers through the guardrails: typed, masked, and only then encoded for the client.

A stream's usual event differs from the one before in its text only. Such an event is recognised by
its bytes, and nothing of it is parsed but the text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import msgspec
from msgspec import UNSET

from tresor_gateway.api import completions
from tresor_gateway.api.completions import (
    CHAT,
    ENCODER,
    PLAIN,
    ChatAnswer,
    Choice,
    FunctionText,
    Logprobs,
    PlainAnswer,
    PlainChoice,
    PlainLogprobs,
    Text,
    TokenLogprob,
    ToolCallText,
)
from tresor_gateway.api.probabilities import Aligner
from tresor_gateway.guardrails.pipeline import Guard
from tresor_gateway.guardrails.stream import StreamMasker

FIELDS: Final = ("content", "reasoning", "reasoning_content", "refusal")
_MARK: Final = "tresor-text"
_MARK_JSON: Final = b'"tresor-text"'
_CONTENT: Final = b'"content":"'
_TEXT: Final = b'"text":"'
Column = tuple[str, float | None, object]


class AnswerError(Exception):
    """The engine's answer is not what its interface promises."""


def clean_answer(
    guard: Guard, body: bytes, *, chat: bool, repair: Callable[[str], str]
) -> tuple[bytes, list[str]]:
    """A whole answer; returns the body for the client and the text of every finished choice.

    ``repair`` may change the text of a finished choice before it is encoded.

    Raises:
        AnswerError: it is not an answer.
        GuardrailError: it may not pass, or no verdict could be reached.
    """
    answer = decode(body, chat=chat)
    texts: list[str] = []
    for choice in answer.choices:
        if isinstance(choice, PlainChoice):
            stream = guard.stream()
            aligner: Aligner[Column] = Aligner(lambda column: column[0])
            _clean_plain(choice, stream, aligner, last=True)
            continue
        if isinstance(choice.message, Text):
            _clean_message(guard, choice, choice.message)
            text = choice.message.content
            if isinstance(text, str) and text and choice.finish_reason == "stop":
                choice.message.content = repair(text)
                texts.append(choice.message.content)
    return ENCODER.encode(answer), texts


def decode(body: bytes, *, chat: bool) -> ChatAnswer | PlainAnswer:
    """Parse an answer or a chunk.

    Raises:
        AnswerError: it is not one.
    """
    try:
        return CHAT.decode(body) if chat else PLAIN.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise AnswerError("the answer is not a completion") from error


def _clean_message(guard: Guard, choice: Choice, message: Text) -> None:
    for name in FIELDS:
        value = getattr(message, name)
        if not isinstance(value, str):
            continue
        cleaned = guard.outgoing(value)
        setattr(message, name, cleaned)
        if name == "content" and isinstance(choice.logprobs, Logprobs) and cleaned != value:
            choice.logprobs = _whole_logprobs(guard, choice.logprobs, value)
    if isinstance(message.tool_calls, list):
        for call in message.tool_calls:
            if isinstance(call.function, FunctionText):
                _clean_function(guard, call.function)


def _clean_function(guard: Guard, function: FunctionText) -> None:
    for name in ("name", "arguments"):
        value = getattr(function, name)
        if isinstance(value, str):
            setattr(function, name, guard.outgoing(value))


def _whole_logprobs(guard: Guard, logprobs: Logprobs, text: str) -> Logprobs:
    aligner: Aligner[TokenLogprob] = Aligner(lambda entry: entry.token)
    entries = logprobs.content if isinstance(logprobs.content, list) else []
    return Logprobs(aligner.through(guard.stream(), text, entries, last=True)[1])


def _clean_plain(
    choice: PlainChoice, stream: StreamMasker, aligner: Aligner[Column], *, last: bool
) -> None:
    text = choice.text if isinstance(choice.text, str) else ""
    columns = _columns(choice.logprobs) if isinstance(choice.logprobs, PlainLogprobs) else []
    out, passed = aligner.through(stream, text, columns, last=last)
    choice.text = out
    if isinstance(choice.logprobs, PlainLogprobs):
        tops = choice.logprobs.top_logprobs
        choice.logprobs = PlainLogprobs(
            [column[0] for column in passed],
            [column[1] for column in passed],
            [column[2] for column in passed] if isinstance(tops, list) else tops,
        )


def _columns(logprobs: PlainLogprobs) -> list[Column]:
    tops = logprobs.top_logprobs if isinstance(logprobs.top_logprobs, list) else []
    tops += [None] * (len(logprobs.tokens) - len(tops))
    if len(logprobs.token_logprobs) != len(logprobs.tokens):
        raise AnswerError("the answer's probabilities do not belong to its tokens")
    return list(zip(logprobs.tokens, logprobs.token_logprobs, tops, strict=False))


class _Lane:
    """One choice of a stream: a masker for each of its texts."""

    __slots__ = ("aligner", "columns", "index", "maskers")

    def __init__(self, index: int) -> None:
        self.index = index
        self.maskers: dict[str | tuple[int, str], StreamMasker] = {}
        self.aligner: Aligner[TokenLogprob] | None = None
        self.columns: Aligner[Column] = Aligner(lambda column: column[0])


class StreamCleaner:
    """The events of one stream, one after the other.

    With ``keep``, ``texts`` are those of the finished choices in the end.
    """

    def __init__(self, guard: Guard, *, chat: bool, keep: bool = False) -> None:
        self._guard = guard
        self._chat = chat
        self._keep = keep
        self._said: dict[int, list[str]] = {}
        self.texts: list[str] = []
        self._lanes: dict[int, _Lane] = {}
        self._envelope: ChatAnswer | PlainAnswer | None = None
        # The bytes around the text of the usual event, as it comes in and as it goes out.
        self._before = self._behind = b""
        self._out_before = self._out_behind = b""
        self._usual: StreamMasker | None = None

    def event(self, payload: bytes) -> bytes:
        """What becomes of an event's data: whole events, or nothing.

        Raises:
            AnswerError: it is not a chunk of an answer.
            GuardrailError: it may not pass, or no verdict could be reached.
        """
        usual = self._usual
        if usual is not None and not self._keep:
            before, behind = self._before, self._behind
            if payload.startswith(before) and payload.endswith(behind):
                middle = payload[len(before) : len(payload) - len(behind)]
                if b'"' not in middle and b"\\" not in middle:
                    try:
                        out = usual.feed(middle.decode())
                    except UnicodeDecodeError as error:
                        raise AnswerError("the answer is not UTF-8") from error
                    return self._usual_event(out) if out else b""
        return self._unusual(payload)

    def finish(self) -> bytes:
        """What is left of texts that never got a finish reason."""
        return b"".join(event for lane in self._lanes.values() for event in self._flush(lane))

    # --- inner ----------------------------------------------------------------------------------

    def _usual_event(self, text: str) -> bytes:
        return b"".join(
            (b"data: ", self._out_before, ENCODER.encode(text), self._out_behind, b"\n\n")
        )

    def _unusual(self, payload: bytes) -> bytes:
        chunk = decode(payload, chat=self._chat)
        self._envelope = chunk
        self._learn(payload, chunk)
        out: list[bytes] = []
        kept: list[Choice | PlainChoice] = []
        for choice in chunk.choices:
            lane = self._lanes.get(choice.index)
            if lane is None:
                lane = self._lanes[choice.index] = _Lane(choice.index)
            if isinstance(choice, PlainChoice):
                alive = self._plain(lane, choice)
            else:
                alive = self._chat_piece(lane, choice)
            if choice.finish_reason:
                out += self._flush(lane)
                self._lanes.pop(choice.index)
                if self._keep and choice.finish_reason == "stop":
                    self.texts.append("".join(self._said.pop(choice.index, ())))
            if alive or choice.finish_reason:
                kept.append(choice)
        if kept or not chunk.choices:
            chunk.choices = kept  # type: ignore[assignment]
            out.append(b"data: " + ENCODER.encode(chunk) + b"\n\n")
        return b"".join(out)

    def _chat_piece(self, lane: _Lane, choice: Choice) -> bool:
        """Clean a piece; whether anything of it is worth an event now."""
        delta = choice.delta
        if not isinstance(delta, Text):
            return False
        alive = isinstance(delta.role, str)
        for name in FIELDS:
            value = getattr(delta, name)
            if isinstance(value, str):
                if name == "content" and isinstance(choice.logprobs, Logprobs):
                    out = self._with_probabilities(lane, choice.logprobs, value)
                else:
                    out = self._masker(lane, name).feed(value)
                setattr(delta, name, out)
                alive = alive or bool(out)
                if name == "content":
                    self._note(lane, out)
        if isinstance(delta.tool_calls, list):
            for call in delta.tool_calls:
                alive = self._tool_piece(lane, call) or alive
        return alive

    def _tool_piece(self, lane: _Lane, call: ToolCallText) -> bool:
        function = call.function
        number = call.index if isinstance(call.index, int) else 0
        alive = isinstance(call.id, str) or isinstance(call.type, str)
        if isinstance(function, FunctionText):
            if isinstance(function.name, str):
                function.name = self._guard.outgoing(function.name)
                alive = True
            if isinstance(function.arguments, str):
                function.arguments = self._masker(lane, (number, "arguments")).feed(
                    function.arguments
                )
                alive = alive or bool(function.arguments)
        return alive

    def _with_probabilities(self, lane: _Lane, logprobs: Logprobs, value: str) -> str:
        if lane.aligner is None:
            lane.aligner = Aligner(lambda entry: entry.token)
        entries = logprobs.content if isinstance(logprobs.content, list) else []
        masker = self._masker(lane, "content")
        out, logprobs.content = lane.aligner.through(masker, value, entries)
        return out

    def _plain(self, lane: _Lane, choice: PlainChoice) -> bool:
        _clean_plain(choice, self._masker(lane, "text"), lane.columns, last=False)
        return bool(choice.text)

    def _note(self, lane: _Lane, text: str) -> None:
        if self._keep and text:
            self._said.setdefault(lane.index, []).append(text)

    def _masker(self, lane: _Lane, name: str | tuple[int, str]) -> StreamMasker:
        masker = lane.maskers.get(name)
        if masker is None:
            masker = lane.maskers[name] = self._guard.stream()
        return masker

    def _flush(self, lane: _Lane) -> Iterator[bytes]:
        """Events with what a choice's maskers still hold."""
        self._usual = None
        envelope = self._envelope
        for name, masker in lane.maskers.items():
            rest = masker.finish()
            if not rest or envelope is None:
                continue
            choice: Choice | PlainChoice
            if isinstance(name, tuple):
                call = ToolCallText(name[0], function=FunctionText(arguments=rest))
                choice = Choice(lane.index, delta=Text(tool_calls=[call]))
            elif name == "text":
                choice = PlainChoice(lane.index, rest, self._last_columns(lane, rest))
            else:
                delta = Text()
                setattr(delta, name, rest)
                choice = Choice(lane.index, delta=delta)
                if name == "content":
                    self._note(lane, rest)
                    if lane.aligner is not None:
                        choice.logprobs = Logprobs(lane.aligner.release(rest, 0))
            chunk = msgspec.structs.replace(envelope, choices=[choice], usage=UNSET)
            yield b"data: " + ENCODER.encode(chunk) + b"\n\n"

    def _last_columns(self, lane: _Lane, rest: str) -> PlainLogprobs | msgspec.UnsetType:
        passed = lane.columns.release(rest, 0)
        if not passed:
            return UNSET
        return PlainLogprobs([column[0] for column in passed], [column[1] for column in passed])

    def _learn(self, payload: bytes, chunk: ChatAnswer | PlainAnswer) -> None:
        """Remember the bytes around the text, when the text is all that there is."""
        self._usual = None
        key = _CONTENT if self._chat else _TEXT
        if len(chunk.choices) != 1 or payload.count(key) != 1 or b'"logprobs":{' in payload:
            return
        choice = chunk.choices[0]
        text = choice.text if isinstance(choice, PlainChoice) else _only_content(choice)
        if not isinstance(text, str) or not text or choice.finish_reason:
            return
        start = payload.index(key) + len(key)
        raw = text.encode()
        if payload[start : start + len(raw)] != raw or payload[start + len(raw)] != ord('"'):
            return
        shape = completions.with_text(chunk, _MARK)
        parts = ENCODER.encode(shape).split(_MARK_JSON)
        if len(parts) != 2:
            return
        self._before, self._behind = payload[:start], payload[start + len(raw) :]
        self._out_before, self._out_behind = parts
        lane = self._lanes.get(choice.index)
        if lane is None:
            lane = self._lanes[choice.index] = _Lane(choice.index)
        self._usual = self._masker(lane, "content" if self._chat else "text")


def _only_content(choice: Choice) -> str | None:
    """The text of a piece that has nothing else."""
    delta = choice.delta
    if not isinstance(delta, Text) or not isinstance(delta.content, str):
        return None
    others = (delta.role, delta.reasoning, delta.reasoning_content, delta.refusal, delta.tool_calls)
    return delta.content if not any(isinstance(other, (str, list)) for other in others) else None
