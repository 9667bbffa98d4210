"""Compare what a running engine says of its own memory with what the plan predicted."""

from __future__ import annotations
