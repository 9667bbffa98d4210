"""What an engine answers to ``/v1/rerank``, as far as the gateway reads it."""

from __future__ import annotations

from typing import Final

import msgspec

from tresor_gateway.api.answers import Usage


class RankedDocument(msgspec.Struct, gc=False):
    """A document by its number among those of the request."""

    index: int
    relevance_score: float


class Ranking(msgspec.Struct, gc=False):
    """The best document first."""

    results: list[RankedDocument]
    id: str = ""
    model: str = ""
    usage: Usage | None = None


RANKING: Final = msgspec.json.Decoder(Ranking)
