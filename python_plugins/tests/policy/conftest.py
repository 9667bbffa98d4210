"""Fixtures: a good bundle to spoil."""

from __future__ import annotations

from pathlib import Path

import pytest

from python_plugins.tests.policy.bench import Bench


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """Return a bundle that every gate accepts."""
    return Bench(tmp_path / "blobs")
