"""A site with a large and a small model on real cards, and audit records of its gateway."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tresor.inventory.loader import load_inventory
from tresor.plan.resolve import resolve
from tresor.traffic.engines import Site, site_of

ROOT = Path(__file__).parents[3]
BEGIN = int(datetime(2026, 11, 18, tzinfo=UTC).timestamp())
END = BEGIN + 7 * 86400
LARGE = "gpu1.llm.example.com:8100"
SMALL = "gpu3.llm.example.com:8100"


@pytest.fixture(scope="session")
def plan() -> dict[str, Any]:
    """The plan of the production example: chat-large on 4 GPUs, chat-small on one."""
    schemas = ROOT / "python_plugins/module_utils/tresor/schema"
    found: dict[str, Any] = resolve(load_inventory(ROOT / "inventories/production", schemas))
    return found


@pytest.fixture
def site(plan: dict[str, Any]) -> Site:
    return site_of(plan["tresor_plan"])


def record(
    second: float,
    model: str = "chat-small",
    engine: str = SMALL,
    *,
    took: float = 1.0,
    prompt: int = 80,
    completion: int = 20,
    **fields: Any,
) -> dict[str, Any]:
    """A decision that ended `second` seconds after the period's begin."""
    tokens = {"prompt": prompt, "completion": completion, "total": prompt + completion}
    return {
        "type": "decision",
        "time": datetime.fromtimestamp(BEGIN + second, UTC).isoformat().replace("+00:00", "Z"),
        "model": model,
        "engine": engine,
        "latency_us": {"total": int(took * 1e6)},
        **({"tokens": tokens} if prompt else {}),
        **fields,
    }


Log = Callable[..., Path]


@pytest.fixture
def log(tmp_path: Path) -> Log:
    """Write records into a writer's file."""

    def write(records: Iterable[dict[str, Any]], name: str = "gateway1-gateway0/1.jsonl") -> Path:
        path = tmp_path / "audit" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [json.dumps(one, separators=(",", ":"), sort_keys=True) + "\n" for one in records]
        path.write_text("".join(lines))
        return path

    return write
