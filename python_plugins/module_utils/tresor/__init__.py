"""What Tresor's modules and tools share; pure logic in a package per topic."""

from __future__ import annotations
