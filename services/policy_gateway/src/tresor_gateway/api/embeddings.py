"""Answers of ``POST /v1/embeddings``: numbers pass, and what else an engine may say does not."""

from __future__ import annotations

import string
from typing import Final

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from tresor_gateway.api.answers import Usage
from tresor_gateway.api.cleaning import AnswerError

_NUMBERS: Final = b"0123456789+-.eE, \t\r\n"
_BASE64: Final = (string.ascii_letters + string.digits + "+/=").encode()


class Embedding(Struct, gc=False):
    """One vector, as the engine wrote it."""

    index: int
    embedding: Raw
    object: str = "embedding"


class EmbeddingAnswer(Struct, gc=False):
    """Vectors in the order of the inputs."""

    data: list[Embedding]
    object: str = "list"
    id: str | UnsetType = UNSET
    created: int | UnsetType = UNSET
    model: str | UnsetType = UNSET
    usage: Usage | UnsetType = UNSET


_DECODER: Final = msgspec.json.Decoder(EmbeddingAnswer)


def clean(body: bytes) -> bytes:
    """The answer with nothing in it but what belongs there; vectors are copied, not parsed.

    Raises:
        AnswerError: it is no list of vectors.
    """
    try:
        answer = _DECODER.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise AnswerError("the answer is no list of embeddings") from error
    for item in answer.data:
        vector = bytes(item.embedding)
        if vector.translate(None, _NUMBERS) != b"[]" and vector.translate(None, _BASE64) != b'""':
            raise AnswerError("an embedding is neither a list of numbers nor base64")
    return msgspec.json.encode(answer)
