"""Answers in other shapes than OpenAI's completions, between the guardrails and the call."""

from __future__ import annotations

from typing import Final

import msgspec

from tresor_gateway.api import errors
from tresor_gateway.api.cleaning import AnswerError, decode
from tresor_gateway.api.completions import ChatAnswer
from tresor_gateway.api.messages import EventTranslator, from_chat
from tresor_gateway.api.parameters import RerankRequest
from tresor_gateway.call import Call

_DATA: Final = b"data: "


class AnthropicCall(Call):
    """A call of ``/v1/messages``: takes chat completions, answers in Anthropic's shape."""

    __slots__ = ("_translator",)

    def __init__(self, call: Call, model: str) -> None:
        """Take over from ``call``, which must not have answered yet."""
        self.take_over(call)
        self._translator = EventTranslator(model)

    def stream_data(self, data: bytes) -> None:
        """Whole events of a chat completion."""
        try:
            out = b"".join(
                self._translator.chunk(_chunk(event[len(_DATA) :]))
                for event in data.split(b"\n\n")
                if event.startswith(_DATA)
            )
        except AnswerError:
            if self.forward is not None:
                self.forward.cancel()
            self.stream_cut(errors.upstream_failed())
            return
        if out:
            super().stream_data(out)

    def stream_end(self) -> None:
        """The end in Anthropic's events."""
        self.end_mark = self._translator.end()
        super().stream_end()

    def answer(self, body: bytes) -> None:
        """A whole chat completion."""
        try:
            translated = from_chat(_chunk(body), self._translator.model)
        except AnswerError:
            self.refuse(errors.upstream_failed())
            return
        super().answer(translated)


def _chunk(payload: bytes) -> ChatAnswer:
    chunk = decode(payload, chat=True)
    if not isinstance(chunk, ChatAnswer):
        raise AnswerError("the answer is not a chat completion")
    return chunk


class _Result(msgspec.Struct, gc=False):
    index: int
    relevance_score: float


class _Ranking(msgspec.Struct, gc=False):
    results: list[_Result]
    id: str = ""
    model: str = ""
    usage: dict[str, int | None] = {}


class RerankCall(Call):
    """A call of ``/v1/rerank``: the engine saw masked documents, the client gets its own back."""

    __slots__ = ("_documents", "_model")

    def __init__(self, call: Call, model: str, request: RerankRequest) -> None:
        """Take over from ``call``; ``request`` still has the client's texts."""
        self.take_over(call)
        self._model = model
        self._documents = list(request.documents)

    def answer(self, body: bytes) -> None:
        """The engine's ranking."""
        try:
            ranking = msgspec.json.decode(body, type=_Ranking)
            results = [
                {
                    "index": result.index,
                    "relevance_score": result.relevance_score,
                    "document": {"text": self._document(result.index)},
                }
                for result in ranking.results
            ]
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, IndexError):
            self.refuse(errors.upstream_failed())
            return
        values = {"id": ranking.id, "model": self._model, "results": results}
        super().answer(msgspec.json.encode({**values, "usage": ranking.usage}))

    def _document(self, index: int) -> str:
        if index < 0:
            raise IndexError(index)
        return self._documents[index]
