"""Speculative decoding and adapters: what vLLM has, and what Tresor lets a site use of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from .vllm_names import LORA_RANKS, SPECULATIVE_METHODS

_REFUSED: Final = {
    "custom_class": "it loads code by name",
    "extract_hidden_states": "it writes the model's states to files",
    "suffix": "it needs a library that no release holds",
}
DRAFTED: Final = frozenset({"dflash", "draft_model", "dspark", "eagle", "eagle3"})
"""Methods that guess with a second model, which is an artefact of its own."""
METHODS: Final = tuple(sorted(SPECULATIVE_METHODS - set(_REFUSED)))


def method_fault(method: str, *, drafted: bool) -> str | None:
    """Return what is wrong with a method, given whether a draft model is named; None if nothing."""
    if method in _REFUSED:
        return f"is refused: {_REFUSED[method]}"
    if method not in SPECULATIVE_METHODS:
        return "is no method of the supported versions of vLLM"
    if method in DRAFTED and not drafted:
        return "guesses with a draft model, and none is named"
    if method not in DRAFTED and drafted:
        return "guesses without a draft model, and one is named"
    return None


def served_rank(ranks: Iterator[int] | list[int]) -> int | None:
    """Return the `--max-lora-rank` that holds these ranks; None if vLLM has none so high."""
    highest = max(ranks)
    return min((rank for rank in LORA_RANKS if rank >= highest), default=None)
