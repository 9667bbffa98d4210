"""What engines answer, as far as the gateway reads it, and the answers it makes itself."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Final

import msgspec
from msgspec import UNSET, Meta, UnsetType

from tresor_gateway.api import engine_text, errors
from tresor_gateway.api.errors import ApiError

# Statuses by which an engine says that the request itself is wrong.
_PASSED: Final = frozenset({400, 413, 422})


# A count beyond this is garbage; it would not fit into the counters of limits either.
TokenCount = Annotated[int, Meta(ge=0, le=1 << 40)]


class TokenDetails(msgspec.Struct, gc=False):
    """What some of the tokens of a count were."""

    cached_tokens: TokenCount | UnsetType | None = UNSET
    reasoning_tokens: TokenCount | UnsetType | None = UNSET


class Usage(msgspec.Struct, gc=False):
    """Token counts of an answer."""

    prompt_tokens: TokenCount = 0
    completion_tokens: TokenCount | UnsetType | None = UNSET
    total_tokens: TokenCount | UnsetType | None = UNSET
    prompt_tokens_details: TokenDetails | UnsetType | None = UNSET
    completion_tokens_details: TokenDetails | UnsetType | None = UNSET


class Answer(msgspec.Struct, gc=False):
    """A complete answer: only the token counts matter here."""

    usage: Usage | None = None


class Chunk(msgspec.Struct, gc=False):
    """One event of a stream."""

    choices: list[msgspec.Raw] | None = None
    usage: Usage | None = None


class _ErrorBody(msgspec.Struct):
    message: str = ""
    type: str | None = None
    param: str | None = None


class _ErrorAnswer(msgspec.Struct):
    error: _ErrorBody | None = None
    message: str = ""


ANSWER: Final = msgspec.json.Decoder(Answer)
CHUNK: Final = msgspec.json.Decoder(Chunk)
_ERROR: Final = msgspec.json.Decoder(_ErrorAnswer)


@dataclass(slots=True)
class Tokens:
    """Token counts for the audit record."""

    prompt: int
    completion: int

    @classmethod
    def of(cls, usage: Usage | None) -> Tokens | None:
        """From an engine's usage object."""
        return None if usage is None else cls(usage.prompt_tokens, usage.completion_tokens or 0)

    @classmethod
    def shown(cls, usage: object) -> Tokens:
        """From what an answer shows as its usage; nothing counts as zero."""
        return (cls.of(usage) if isinstance(usage, Usage) else None) or cls(0, 0)


def models(names: Iterable[str]) -> bytes:
    """The list of ``GET /v1/models``."""
    data = [
        {"id": name, "object": "model", "created": 0, "owned_by": "tresor"}
        for name in sorted(names)
    ]
    return msgspec.json.encode({"object": "list", "data": data})


def engine_error(status: int, body: bytes) -> ApiError:
    """What the client hears when an engine answers with an error status."""
    if status in _PASSED:
        try:
            answer = _ERROR.decode(body)
            detail = answer.error or _ErrorBody(message=answer.message)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            detail = _ErrorBody()
        large = status == 413
        return errors.engine_refused(
            detail.message, engine_text.parameter(detail.param), large=large
        )
    if status in (429, 503):
        return errors.unavailable("upstream_busy", "All engines of this model are busy.", 2)
    return errors.upstream_failed()
