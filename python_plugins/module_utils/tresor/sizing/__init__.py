"""Sizing: what a model needs on a GPU, before the GPU is bought."""

from __future__ import annotations

from .errors import SizingError

__all__ = ["SizingError"]
