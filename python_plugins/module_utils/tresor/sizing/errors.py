"""The error family of the sizing package."""

from __future__ import annotations


class SizingError(ValueError):
    """Base of all refusals of this package. The text is meant for an operator."""
