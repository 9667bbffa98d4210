"""Counters and positions that survive a restart: one small JSON file for each collector."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any, Final

log = logging.getLogger(__name__)
SCHEMA: Final = "tresor-exporter-state/v1"


class StateFile:
    """Written as a whole after each pass, so that counters and positions always fit together."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> dict[str, Any] | None:
        """Return what was saved last, None if there is nothing to go on from.

        A file that cannot be understood is set aside, because counting must go on: the counters
        then begin at 0, which Prometheus knows how to read.

        Raises:
            OSError: the file exists and cannot be read.
        """
        try:
            raw = self._path.read_bytes()
        except FileNotFoundError:
            return None
        try:
            data = json.loads(raw)
            if data["schema"] == SCHEMA and isinstance(data["content"], dict):
                return dict(data["content"])
        except (ValueError, KeyError, TypeError):
            pass
        self.set_aside()
        return None

    def set_aside(self) -> None:
        """Rename a file that makes no sense, and say so."""
        broken = self._path.with_suffix(".broken")
        self._path.replace(broken)
        log.error("%s: makes no sense; kept as %s, counting begins at 0", self._path, broken.name)

    def save(self, content: dict[str, Any]) -> None:
        """Replace the file; after a power cut it is the old or the new one.

        Raises:
            OSError: the disk is full or read-only.
        """
        temporary = self._path.with_suffix(".new")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            json.dump({"schema": SCHEMA, "content": content}, stream, separators=(",", ":"))
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(self._path)
