"""The configuration file, read once and checked."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tresor.gpu.xid import Action

AUTOMATIC: Final = (Action.RESTART_FABRIC, Action.RESET_GPU, Action.REBOOT_HOST)
_LIMIT: Final = 64 * 1024
_KEYS: Final = {
    "host",
    "automatic",
    "daily_cap",
    "settle_seconds",
    "engine_units",
    "gpu_units",
    "fabric",
    "state_file",
    "metrics_file",
    "command_timeout_seconds",
}


class ConfigError(Exception):
    """A configuration that cannot be used; names the key, what was seen, what to write."""


@dataclass(frozen=True)
class Config:
    """What the watcher may do, and where it writes.

    `automatic` are the actions that it takes itself; others end with drained engines and an alert.
    `gpu_units` hold the devices beside engines and stop for a reset, in this order.
    """

    host: str
    automatic: frozenset[Action]
    daily_cap: int
    settle_seconds: float
    engine_units: str
    gpu_units: tuple[str, ...]
    fabric: bool
    state_file: Path
    metrics_file: Path
    command_timeout_seconds: float


def load(path: Path) -> Config:
    """Return the configuration; raises ConfigError."""
    try:
        with path.open("rb") as stream:
            data = json.loads(stream.read(_LIMIT))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from None
    return read(data)


def read(data: Any) -> Config:  # noqa: ANN401 - checked here
    """Return the configuration out of a mapping; raises ConfigError."""
    if not isinstance(data, dict) or set(data) != _KEYS:
        seen = sorted(data) if isinstance(data, dict) else type(data).__name__
        raise ConfigError(f"expected the keys {', '.join(sorted(_KEYS))}, saw {seen}")
    words = {action.word: action for action in AUTOMATIC}
    unknown = [word for word in data["automatic"] if word not in words]
    if unknown:
        raise ConfigError(f"automatic: saw {unknown}; write some of {', '.join(words)}")
    for key, least, most in (
        ("daily_cap", 0, 24),
        ("settle_seconds", 0, 300),
        ("command_timeout_seconds", 1, 3600),
    ):
        value = data[key]
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ConfigError(f"{key}: saw {value!r}; write a number")
        if not least <= value <= most:
            raise ConfigError(f"{key}: saw {value!r}; write {least} to {most}")
    return Config(
        host=str(data["host"]),
        automatic=frozenset(words[word] for word in data["automatic"]),
        daily_cap=int(data["daily_cap"]),
        settle_seconds=float(data["settle_seconds"]),
        engine_units=str(data["engine_units"]),
        gpu_units=tuple(str(unit) for unit in data["gpu_units"]),
        fabric=bool(data["fabric"]),
        state_file=Path(data["state_file"]),
        metrics_file=Path(data["metrics_file"]),
        command_timeout_seconds=float(data["command_timeout_seconds"]),
    )
