"""Metrics of a Tresor host that no other exporter has: logs, certificates, queues, evidence."""

from __future__ import annotations

__version__ = "0.1.0"
