"""Limits of a person or service account: what its groups say, taken together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

from tresor_gateway import config_schema as schema


@dataclass(frozen=True)
class Limits:
    """None is no limit. Tokens are prompt and answer together."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrent_streams: int | None = None
    context_tokens: int | None = None
    daily_tokens: int | None = None

    @property
    def counted(self) -> bool:
        """Whether anything has to be counted."""
        return any(
            value is not None
            for value in (
                self.requests_per_minute,
                self.tokens_per_minute,
                self.concurrent_streams,
                self.daily_tokens,
            )
        )


NAMES = tuple(field.name for field in fields(Limits))


def combined(groups: Iterable[Sequence[schema.AccessRule]]) -> Limits:
    """The most generous value of each limit; a group that has none of a kind lifts it.

    ``groups`` are the rules of each of the groups somebody is in.
    """
    values: dict[str, int | None] = dict.fromkeys(NAMES)
    first = True
    for rules in groups:
        for name in NAMES:
            own = [
                value
                for rule in rules
                if rule.limits is not None and (value := getattr(rule.limits, name)) is not None
            ]
            mine = max(own) if own else None
            known = values[name]
            if first:
                values[name] = mine
            else:
                values[name] = None if mine is None or known is None else max(known, mine)
        first = False
    return Limits(**values)
