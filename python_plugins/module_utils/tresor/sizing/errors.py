"""The error family of sizing: each message names the thing, the value seen and what to do."""

from __future__ import annotations

from collections.abc import Iterable


class SizingError(ValueError):
    """Sizing cannot answer; the message says why and what to change."""


class OptionError(SizingError):
    """An option of a sizing request is unknown, of the wrong type, or absurd."""


class ModelError(SizingError):
    """A model's description is missing, contradictory or hostile."""


class UnknownArchitectureError(ModelError):
    """The model's architecture is not one whose memory is known; it is never guessed."""


def shown(value: object, limit: int = 80) -> str:
    """Return `value` as it goes into a message: its repr, cut so that input cannot flood a log."""
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."


def listed(names: Iterable[str], limit: int = 8) -> str:
    """Return names for a message, at most `limit` of them."""
    known = list(names)
    more = f" and {len(known) - limit} more" if len(known) > limit else ""
    return ", ".join(known[:limit]) + more
