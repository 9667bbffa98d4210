"""The configuration file: read once, checked, immutable."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tresor_siem.errors import ForwardError
from tresor_siem.shape_files import SHAPERS
from tresor_siem.tail import FileSource


@dataclass(frozen=True)
class Config:
    """See the role's template; sizes in bytes."""

    host: str
    spool: Path
    checkpoint: Path
    input_socket: Path
    stats: Path
    collector: frozenset[tuple[str, int]]
    window: int
    in_flight: int
    max_spool_bytes: int
    min_free_bytes: int
    files: tuple[FileSource, ...]


def read(path: Path) -> Config:
    """Read the file; ForwardError says what is wrong in it."""
    try:
        raw: dict[str, Any] = json.loads(path.read_text("utf-8"))
        config = Config(
            host=str(raw["host"]),
            spool=Path(raw["spool"]),
            checkpoint=Path(raw["checkpoint"]),
            input_socket=Path(raw["input_socket"]),
            stats=Path(raw["stats"]),
            collector=frozenset((str(ip), int(raw["port"])) for ip in raw["addresses"]),
            window=int(raw["window"]),
            in_flight=int(raw["in_flight"]),
            max_spool_bytes=int(raw["max_spool_bytes"]),
            min_free_bytes=int(raw["min_free_bytes"]),
            files=tuple(
                FileSource(entry["name"], tuple(entry["patterns"]), bool(entry["keep_rest"]))
                for entry in raw["files"]
            ),
        )
    except OSError as error:
        raise ForwardError(f"{path}: {error.strerror}; converge the host again") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ForwardError(f"{path}: {error!r}; converge the host again") from error
    unknown = [source.name for source in config.files if source.name not in SHAPERS]
    if unknown or config.window < 1 or config.in_flight <= config.window:
        raise ForwardError(
            f"{path}: sources {unknown} are unknown, or in_flight ({config.in_flight}) is not "
            f"above window ({config.window}); converge the host again"
        )
    return config
