"""Read what a client may read: version, collections, and one search if there is something."""

from __future__ import annotations

import time
from typing import Any


def probe(client: Any) -> dict[str, Any]:  # noqa: ANN401
    """Return {"version", "collections", "described", "searched", "seconds"}."""
    began = time.monotonic()
    found = sorted(client.list_collections())
    result: dict[str, Any] = {"version": client.get_server_version(), "collections": found}
    result["described"] = result["searched"] = None
    if found:
        fields = client.describe_collection(found[0])["fields"]
        result["described"] = found[0]
        result["searched"] = _search(client, found[0], fields)
    result["seconds"] = round(time.monotonic() - began, 3)
    return result


def _search(client: Any, name: str, fields: list[dict[str, Any]]) -> int | None:  # noqa: ANN401
    dense = [field for field in fields if field["type"].name == "FLOAT_VECTOR"]
    loaded = str(client.get_load_state(name).get("state", "")).endswith("Loaded")
    if not dense or not loaded or "NotLoad" in str(client.get_load_state(name)):
        return None
    size = int(dense[0]["params"]["dim"])
    hits = client.search(name, [[1.0] + [0.0] * (size - 1)], anns_field=dense[0]["name"], limit=1)
    return len(hits[0])
