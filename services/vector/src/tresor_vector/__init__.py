"""What a Tresor site adds to Milvus: launcher, space guard, metrics, backup and restore."""

from __future__ import annotations

__version__ = "0.1.0"
