"""Constants fitted on measured start-ups. Written by docs/tools/sizing_fit.py; do not edit."""

from __future__ import annotations

VALUES: dict[str, float] = {}
