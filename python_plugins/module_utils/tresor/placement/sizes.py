"""How large a model is on disk."""

from __future__ import annotations

from typing import Final

from ..sizing.errors import SizingError
from ..sizing.model import describe
from .values import Wanted

_BYTES_PER_GIB: Final = 1 << 30


def model_gib(wanted: Wanted) -> float | None:
    """Return the weights of a model in GiB as its files hold them; None for an unknown one."""
    if wanted.architecture is None:
        return None
    try:
        shape = describe(wanted.architecture, wanted.quantization)
    except SizingError:
        return None
    return sum(shape.bytes_by_kind.values()) / _BYTES_PER_GIB
