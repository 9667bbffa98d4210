"""The gateway's route `auto` for the models that a site has placed: short work to small models.

A rule names a model by what the catalogue knows: its class, whether it calls tools, and whether its
publisher states German. Lengths are characters of all texts of a request, about four to a token.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

NAME: Final = "auto"
SHORT: Final = 2000
"""Characters up to which a request goes to the small model."""
LONG: Final = 24000
"""Characters from which on a request goes to the large model."""


@dataclass(frozen=True)
class Candidate:
    """A model that `auto` may choose."""

    name: str
    part: str
    german: bool
    tools: bool
    context_tokens: int


def auto_route(candidates: Sequence[Candidate]) -> list[dict[str, Any]]:
    """Return the route, as the gateway's section `routes` takes it; nothing to choose, no route."""
    first: dict[str, Candidate] = {}
    for candidate in candidates:
        first.setdefault(candidate.part, candidate)
    usual = first.get("medium") or first.get("large") or first.get("small")
    if usual is None:
        return []
    rules = list(_rules(first, usual))
    if not rules:
        return []
    return [{"name": NAME, "default": usual.name, "rules": rules}]


def _rules(first: Mapping[str, Candidate], usual: Candidate) -> Iterator[dict[str, Any]]:
    code, small, large = first.get("code"), first.get("small"), first.get("large")
    if code is not None:
        yield {"model": code.name, "hints": ["code"]}
    if small is not None and small is not usual:
        able = [one for one in (usual, large) if one is not None and one.tools]
        if able:
            yield {"model": able[0].name, "hints": ["tools"]}
        # Language is guessed from frequent words; what it cannot tell goes to the usual model.
        languages = {} if small.german else {"languages": ["en"]}
        yield {"model": small.name, "max_characters": SHORT, **languages}
    if large is not None and large is not usual and large.context_tokens >= usual.context_tokens:
        yield {"model": large.name, "min_characters": LONG}
