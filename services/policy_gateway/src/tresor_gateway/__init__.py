"""Policy gateway: every request to a model is identified, authorised, routed and recorded here."""

from __future__ import annotations

__version__ = "0.1.0"
