"""Say what is in a folder of locks or in a built bundle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bundle.builder.errors import BuilderError
from bundle.builder.lock import LockDir


def table(rows: list[tuple[str, str, str, int, int]]) -> str:
    """Return a text table of (part, type, scope, files, bytes) with a sum."""
    lines = [f"{'part':34} {'type':18} {'scope':8} {'files':>6} {'MB':>9}"]
    for name, kind, scope, count, size in rows:
        lines.append(f"{name:34} {kind:18} {scope:8} {count:6} {size / 1e6:9.1f}")
    files, size = sum(row[3] for row in rows), sum(row[4] for row in rows)
    lines.append(f"{'together':34} {'':18} {'':8} {files:6} {size / 1e6:9.1f}")
    return "\n".join(lines)


def show_locks(folder: LockDir, scopes: dict[str, str]) -> str:
    """Return header and parts of the locks."""
    header = folder.header()
    rows = []
    for name in folder.names():
        lock = folder.read(name)
        if lock is not None:
            size = sum(entry.size for entry in lock.files)
            rows.append((name, lock.type, scopes.get(name, "-"), len(lock.files), size))
    title = "no header" if header is None else f"{header.id}, serial {header.serial}"
    return f"locks in {folder.folder}: {title}\n{table(rows)}"


def show_bundle(folder: Path) -> str:
    """Return header and parts of a built bundle (nothing is verified here).

    Raises:
        BuilderError: no single manifest.
    """
    found = sorted((folder / "targets").glob("*.bundle.json"))
    if len(found) != 1:
        raise BuilderError(f"{folder}: expected one targets/*.bundle.json, found {len(found)}")
    data: dict[str, Any] = json.loads(found[0].read_bytes())
    rows = [
        (
            part["name"],
            part["type"],
            part["scope"],
            len(part["files"]),
            sum(entry["size"] for entry in part["files"]),
        )
        for part in data["parts"]
    ]
    signed = "signed" if (folder / "tuf/timestamp.json").exists() else "not signed"
    title = f"bundle {data['id']}, serial {data['serial']}, {signed}, created {data['created']}"
    return f"{title}, expires {data['expires']}\n{table(rows)}"
