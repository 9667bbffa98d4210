"""The configuration file, read once and checked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tresor.api_check.client import Endpoint
from tresor_engine_watchdog.question import TASKS

_LIMIT: Final = 1024 * 1024
_KEYS: Final = {
    "host",
    "interval_seconds",
    "timeout_seconds",
    "failures",
    "hourly_cap",
    "state_file",
    "metrics_file",
    "evidence_directory",
    "ca_file",
    "certificate_file",
    "key_file",
    "instances",
}
_INSTANCE_KEYS: Final = {"id", "unit", "task", "model", "name", "address", "port"}
_RANGES: Final = (
    ("interval_seconds", 1, 600),
    ("timeout_seconds", 1, 600),
    ("failures", 2, 100),
    ("hourly_cap", 0, 60),
)


class ConfigError(Exception):
    """A configuration that cannot be used; names the key, what was seen, what to write."""


@dataclass(frozen=True)
class Instance:
    """An engine: its systemd unit, what it is for, the name it serves, and where it listens."""

    id: str
    unit: str
    task: str
    model: str
    endpoint: Endpoint


@dataclass(frozen=True)
class Config:
    """How often and how long an engine is asked, and what follows.

    After `failures` questions in a row without an answer and without progress an engine hangs. Of
    `hourly_cap` restarts in an hour another hang stops it until somebody starts it.
    """

    host: str
    interval_seconds: float
    timeout_seconds: float
    failures: int
    hourly_cap: int
    state_file: Path
    metrics_file: Path
    evidence_directory: Path
    certificates: Mapping[str, str]
    instances: tuple[Instance, ...]


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
    _same_keys(data, _KEYS, "the configuration")
    for key, least, most in _RANGES:
        value = data[key]
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ConfigError(f"{key}: saw {value!r}; write a number")
        if not least <= value <= most:
            raise ConfigError(f"{key}: saw {value!r}; write {least} to {most}")
    return Config(
        host=str(data["host"]),
        interval_seconds=float(data["interval_seconds"]),
        timeout_seconds=float(data["timeout_seconds"]),
        failures=int(data["failures"]),
        hourly_cap=int(data["hourly_cap"]),
        state_file=Path(data["state_file"]),
        metrics_file=Path(data["metrics_file"]),
        evidence_directory=Path(data["evidence_directory"]),
        certificates={
            key: str(data[key]) for key in ("ca_file", "certificate_file", "key_file")
        },
        instances=tuple(_instance(one) for one in data["instances"]),
    )  # fmt: skip


def _same_keys(data: Any, keys: set[str], what: str) -> None:  # noqa: ANN401 - checked here
    if not isinstance(data, dict) or set(data) != keys:
        seen = sorted(data) if isinstance(data, dict) else type(data).__name__
        raise ConfigError(f"{what}: expected the keys {', '.join(sorted(keys))}, saw {seen}")


def _instance(data: Any) -> Instance:  # noqa: ANN401 - checked here
    _same_keys(data, _INSTANCE_KEYS, "an instance")
    if data["task"] not in TASKS:
        raise ConfigError(
            f"instance {data['id']}: task: saw {data['task']!r}; write one of {', '.join(TASKS)}"
        )
    return Instance(
        id=str(data["id"]),
        unit=str(data["unit"]),
        task=str(data["task"]),
        model=str(data["model"]),
        endpoint=Endpoint(str(data["name"]), str(data["address"]), int(data["port"])),
    )
