"""What an engine says of itself, whichever way it says it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from typing import Any


@dataclass(frozen=True)
class Observed:
    """An engine's own figures; None is what it did not tell. Memory is in GiB, per GPU.

    Of several ranks the worst counts: most weights, least memory for the KV cache.
    """

    version: str | None = None
    weights_gib: float | None = None
    kv_gib: float | None = None
    kv_tokens: int | None = None
    max_concurrency: float | None = None
    num_blocks: int | None = None
    block_size: int | None = None
    cudagraph_gib: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the fields for a machine-readable record."""
        return asdict(self)


def first_known(reports: Iterable[Observed]) -> Observed:
    """Return each figure from the first report that has it."""
    known = list(reports)
    return Observed(
        **{
            field.name: next(
                (value for one in known if (value := getattr(one, field.name)) is not None), None
            )
            for field in fields(Observed)
        }
    )
