"""Outputs of nvidia-smi; where each comes from stands in fixtures/README.md."""

from __future__ import annotations

from pathlib import Path

FIXTURES = Path(__file__).parent / "fixtures"


def fixture(name: str) -> str:
    """Return the text of a fixture."""
    return (FIXTURES / name).read_text(encoding="utf-8")
