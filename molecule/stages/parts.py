"""Lay out single parts of a built bundle as plain folders (the company's side of the lab)."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def manifest(bundle: Path) -> dict[str, Any]:
    """Return the content of the only target of ``bundle``, ``bundle.json``."""
    (path,) = (bundle / "targets").glob("*.bundle.json")
    content: dict[str, Any] = json.loads(path.read_bytes())
    return content


def lay_out(bundle: Path, names: Sequence[str], destination: Path) -> None:
    """Hardlink the files of the named parts to ``destination/<part>/<path>``, afresh."""
    if destination.exists():
        shutil.rmtree(destination)
    wanted = {part["name"]: part for part in manifest(bundle)["parts"] if part["name"] in names}
    for name in names:
        for entry in wanted[name]["files"]:
            target = destination / name / entry["path"]
            target.parent.mkdir(parents=True, exist_ok=True)
            os.link(bundle / "blobs" / entry["sha256"][:2] / entry["sha256"], target)
