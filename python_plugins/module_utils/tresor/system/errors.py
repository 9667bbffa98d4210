"""The error family of this package."""

from __future__ import annotations


class SystemStateError(Exception):
    """A file or unit cannot be brought to its wanted state. The text is meant for an operator."""
