"""The configuration as values; ``config`` makes and checks them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

OTHER: Final = "other"
"""Endpoint label of every path that the configuration does not name."""


@dataclass(frozen=True)
class Nginx:
    """NGINX's JSON log; ``endpoints`` gives the label of each known path."""

    log: Path
    endpoints: Mapping[str, str]


@dataclass(frozen=True)
class PemFiles:
    """Files with certificates or revocation lists."""

    paths: tuple[Path, ...]


@dataclass(frozen=True)
class Siem:
    """The reader's report, rsyslog's impstats file, and the queue there with its room."""

    report: Path
    stats: Path
    queue: str
    queue_capacity: int


@dataclass(frozen=True)
class Firewall:
    """ulogd's log of dropped packets."""

    log: Path


@dataclass(frozen=True)
class Store:
    """The bundle store."""

    root: Path


@dataclass(frozen=True)
class Verify:
    """The newest full evidence report."""

    evidence: Path


@dataclass(frozen=True)
class Clock:
    """A socket that answers with ``chronyc -c tracking``."""

    socket: Path
    max_age_seconds: float


@dataclass(frozen=True)
class Probe:
    """A request to the API as a user without a token would make it."""

    host: str
    port: int
    path: str
    ca: Path
    interval_seconds: float
    timeout_seconds: float


@dataclass(frozen=True)
class Collectors:
    """What to collect; None is off."""

    nginx: Nginx | None = None
    certificates: PemFiles | None = None
    crls: PemFiles | None = None
    siem: Siem | None = None
    firewall: Firewall | None = None
    store: Store | None = None
    verify: Verify | None = None
    clock: Clock | None = None
    probe: Probe | None = None


@dataclass(frozen=True)
class Config:
    """All settings."""

    listen_host: str
    listen_port: int
    state_directory: Path
    collectors: Collectors
