"""Why there is no report of the traffic."""

from __future__ import annotations


class TrafficError(ValueError):
    """The text says the thing, the value seen, what to do."""
