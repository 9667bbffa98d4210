"""The catalogue of GPUs: memory, speed, links and power of the cards that a site may buy."""

from __future__ import annotations

from .gpu import Gpu
from .lookup import UnknownGpuError, find, names

__all__ = ["Gpu", "UnknownGpuError", "find", "names"]
