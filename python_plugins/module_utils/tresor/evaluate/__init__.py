"""Compare two instances of a model on the same prompts and say whether the cheaper one will do."""

from __future__ import annotations
