"""A site that keeps content, and the operator's desk beside it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from services.policy_gateway.tests.support import Site
from tresor_gateway import config
from tresor_gateway.content.crypto import SiteKey
from tresor_gateway.content.operator import Operator, Order

SECRET = b"k" * 32
MASKING: dict[str, Any] = {
    direction: dict.fromkeys(["email", "iban", "card", "phone", "ip", "secret"], "mask")
    for direction in ("request", "context", "response")
}
ACCESS = [
    {
        "group": "llm-users",
        "models": ["smollm"],
        "endpoints": ["models", "chat.completions", "completions", "messages"],
    },
    {"group": "board", "models": ["smollm"], "endpoints": ["chat.completions"]},
    {"group": "llm-embedding", "models": ["minilm"], "endpoints": ["embeddings"]},
]


def content(folder: Path, *rules: dict[str, Any], **more: Any) -> dict[str, Any]:
    """The section content, with its key written."""
    key = folder / "content.key"
    key.write_bytes(SECRET)
    return {
        "directory": str(folder / "content"),
        "key_file": str(key),
        "rules": list(rules) or [{"keep": "masked"}],
        "retention_days": 90,
        "min_free_bytes": 0,
        "commit_milliseconds": 2,
        **more,
    }


def desk(site: Site, secret: bytes = SECRET) -> Operator:
    """The operator's desk of a site."""
    return Operator(config.parse(json.dumps(site.settings), "test"), SiteKey(secret))


def shown(site: Site, record: str) -> dict[str, Any]:
    """What was kept for a record."""
    found: dict[str, Any] = json.loads(desk(site).show(Order("show", "op", "test", record=record)))
    return found


def everything(folder: Path) -> bytes:
    """Every byte below a folder, and every name."""
    return b"".join(
        os.fsencode(path.name) + (path.read_bytes() if path.is_file() else b"")
        for path in sorted(folder.rglob("*"))
    )
