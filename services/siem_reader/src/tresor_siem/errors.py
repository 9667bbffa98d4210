"""The errors of this package."""

from __future__ import annotations


class ForwardError(Exception):
    """Something an operator has to know: the thing, what was seen, what to do."""
