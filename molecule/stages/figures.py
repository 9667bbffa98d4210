"""Stage times and other figures, kept as one JSON object in ``build/``."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Figures:
    """Collects seconds per stage and named values of one run."""

    started: float = field(default_factory=time.monotonic)
    stages: dict[str, float] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time one stage and say on the screen when it begins and ends."""
        print(f"\n== {name}", flush=True)
        begin = time.monotonic()
        yield
        self.stages[name] = round(time.monotonic() - begin, 1)
        print(f"== {name}: {self.stages[name]:.1f} s", flush=True)

    def as_json(self) -> dict[str, Any]:
        """Return everything collected, with the total wall time in seconds."""
        total = round(time.monotonic() - self.started, 1)
        return {"total_seconds": total, "stage_seconds": self.stages, **self.values}

    def write(self, path: Path) -> None:
        """Write the figures as one JSON object."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self.as_json(), indent=2, sort_keys=True) + "\n", "utf-8")
