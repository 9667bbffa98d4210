"""Sizing: what fits on a GPU, and how fast it answers, before anything is bought or started."""

from __future__ import annotations

from .errors import SizingError
from .estimate import estimate
from .latency import latency

__all__ = ["SizingError", "estimate", "latency"]
