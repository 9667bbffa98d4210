"""Answers in other shapes than OpenAI's completions, between the guardrails and the call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

import msgspec

from tresor_gateway.api import embeddings, errors, messages, responses
from tresor_gateway.api.cleaning import AnswerError, decode
from tresor_gateway.api.completions import ChatAnswer
from tresor_gateway.api.parameters import RerankRequest
from tresor_gateway.api.rankings import RANKING
from tresor_gateway.call import Call

_DATA: Final = b"data: "


class Translator(Protocol):
    """Makes the events of another interface out of those of a chat completion."""

    model: str

    def chunk(self, chunk: ChatAnswer) -> bytes:
        """The events a chunk becomes."""

    def end(self) -> bytes:
        """The last events."""


class TranslatedCall(Call):
    """A call that takes chat completions and answers in another shape."""

    __slots__ = ("_translator", "_whole")

    def __init__(
        self, call: Call, translator: Translator, whole: Callable[[ChatAnswer, str], bytes]
    ) -> None:
        """Take over from ``call``, which must not have answered yet."""
        self.take_over(call)
        self._translator = translator
        self._whole = whole

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
        """The end in the events of the other interface."""
        self.end_mark = self._translator.end()
        super().stream_end()

    def answer(self, body: bytes) -> None:
        """A whole chat completion."""
        try:
            translated = self._whole(_chunk(body), self._translator.model)
        except AnswerError:
            self.refuse(errors.upstream_failed())
            return
        super().answer(translated)


def _chunk(payload: bytes) -> ChatAnswer:
    chunk = decode(payload, chat=True)
    if not isinstance(chunk, ChatAnswer):
        raise AnswerError("the answer is not a chat completion")
    return chunk


def anthropic(call: Call, model: str) -> Call:
    """A call of ``/v1/messages``."""
    return TranslatedCall(call, messages.EventTranslator(model), messages.from_chat)


def responses_call(call: Call, model: str) -> Call:
    """A call of ``/v1/responses``."""
    return TranslatedCall(call, responses.EventTranslator(model), responses.from_chat)


class EmbeddingCall(Call):
    """A call of ``/v1/embeddings``."""

    __slots__ = ()

    def __init__(self, call: Call) -> None:
        """Take over from ``call``, which must not have answered yet."""
        self.take_over(call)

    def answer(self, body: bytes) -> None:
        """The engine's vectors."""
        try:
            cleaned = embeddings.clean(body)
        except AnswerError:
            self.refuse(errors.upstream_failed())
            return
        super().answer(cleaned)


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
            ranking = RANKING.decode(body)
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
