"""What is known of an instance's memory: what the engine says, beside what the plan predicted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

_OBSERVED: Final = ("weights_gib", "kv_gib", "kv_tokens", "max_concurrency")


def told(memory: Mapping[str, Any]) -> dict[str, Any]:
    """Return the figures of the page; what the engine does not tell is None, never a prediction."""
    observed = memory.get("observed") or {}
    predicted = memory.get("predicted") or {}
    return {
        **{name: observed.get(name) for name in _OBSERVED},
        "weights_predicted_gib": predicted.get("weights_gib_per_gpu"),
    }
