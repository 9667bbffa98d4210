"""Latency, throughput and queueing of a deployment that does not exist yet."""

from __future__ import annotations

from .answer import latency
from .engines import LatencyError

__all__ = ["LatencyError", "latency"]
