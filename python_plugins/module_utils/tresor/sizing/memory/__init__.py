"""The memory of one rank: weights, profile peak, overheads, KV pool."""

from __future__ import annotations
