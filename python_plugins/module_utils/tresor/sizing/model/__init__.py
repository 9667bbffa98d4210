"""Models as sizing sees them: `describe` turns a name, a config or a directory into a shape."""

from __future__ import annotations

from .describe import describe
from .shape import (
    Attention,
    Experts,
    Kind,
    LatentAttention,
    Layer,
    ModelShape,
    Split,
    State,
    Vision,
    Weight,
)

__all__ = [
    "Attention",
    "Experts",
    "Kind",
    "LatentAttention",
    "Layer",
    "ModelShape",
    "Split",
    "State",
    "Vision",
    "Weight",
    "describe",
]
