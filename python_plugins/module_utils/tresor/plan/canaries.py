"""What a model's users try in its place: the weights by which each engine gets its share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

MOST: Final = 1000
"""The largest weight that the gateway takes."""


def share_weights(own: int, canaries: Sequence[tuple[int, int]]) -> tuple[int, list[list[int]]]:
    """Return the weight of each of a model's own instances, and those of each canary's instances.

    All weights are whole numbers from 0 to `MOST`. The model's own are equal, so a change of a
    share moves no conversation between them; the sum of a canary's is as near to its share as the
    largest weight allows, so with more instances than that sum some get none. With up to
    16 instances on either side a share is met within 0.05 percentage points.

    Args:
        own: number of the model's own instances, 1 or more.
        canaries: percent of the conversations and number of instances of each; the percents are
            100 together at the most, without the 100.
    """
    rest = 100 - sum(percent for percent, _ in canaries)
    one = MOST
    for percent, count in canaries:
        # A weight above the largest one would be needed: then all the others are smaller.
        one = min(one, MOST * count * rest // (own * percent))
    one = max(one, 1)
    found: list[list[int]] = []
    for percent, count in canaries:
        total = (2 * one * own * percent + rest) // (2 * rest)
        total = max(1, min(total, MOST * count))
        found.append([(total + count - 1 - position) // count for position in range(count)])
    return one, found


def add_canaries(
    entries: Sequence[dict[str, Any]], models: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Return the plan's models, those that are tried and those whose users try them saying so.

    Args:
        entries: the models of the plan, with the ids of their instances.
        models: the models of the inventory.
    """
    wanted = {model["name"]: model["canary"] for model in models if "canary" in model}
    ids = {entry["name"]: entry["instances"] for entry in entries}
    found: list[dict[str, Any]] = []
    for entry in entries:
        tried = {name: one for name, one in wanted.items() if one["of"] == entry["name"]}
        if entry["name"] in wanted:
            found.append({**entry, "canary_of": wanted[entry["name"]]["of"]})
        elif tried:
            found.append({**entry, **_tried(entry["instances"], tried, ids)})
        else:
            found.append(entry)
    return found


def _tried(
    own: Sequence[str], tried: Mapping[str, Mapping[str, Any]], ids: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    one, shares = share_weights(
        len(own), [(canary["percent"], len(ids[name])) for name, canary in tried.items()]
    )
    weights = dict.fromkeys(own, one)
    for name, share in zip(tried, shares, strict=True):
        weights.update(zip(ids[name], share, strict=True))
    return {
        "canaries": [
            {"model": name, "percent": canary["percent"]} for name, canary in tried.items()
        ],
        "weights": weights,
    }
