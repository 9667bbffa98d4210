"""The operator's command on the bastion: runs a stage and keeps its record."""

from __future__ import annotations

__version__ = "0.1.0"
