"""Whether a deployment keeps a promised service level, why not, and what would."""

from __future__ import annotations

from .assess import Search, assess
from .promise import Load, Promise

__all__ = ["Load", "Promise", "Search", "assess"]
