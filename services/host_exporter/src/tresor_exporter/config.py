"""Read and check the configuration: JSON in, a frozen ``Config`` or a ``ConfigError`` out."""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from tresor_exporter import schema
from tresor_exporter.errors import ConfigError
from tresor_exporter.fields import Fields

MAX_BYTES: Final = 1 << 20
_LABEL: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")


def load(path: Path) -> schema.Config:
    """Read, convert and check the file at ``path``.

    Raises:
        ConfigError: it names file, key, value seen and what to do.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}; check --config") from error
    if len(raw) > MAX_BYTES:
        raise ConfigError(f"{path}: larger than {MAX_BYTES} bytes; is it the right file?")
    return parse(raw, str(path))


def parse(raw: bytes, source: str) -> schema.Config:
    """Convert the bytes of a configuration; ``source`` names it in messages.

    Raises:
        ConfigError: see ``load``.
    """
    try:
        data = json.loads(raw)
    except ValueError as error:
        raise ConfigError(f"{source}: is not JSON: {error}") from error
    top = Fields(data, source)
    host, port = _listen(top)
    config = schema.Config(
        listen_host=host,
        listen_port=port,
        state_directory=top.path("state_directory"),
        collectors=_collectors(top.section("collectors")),
    )
    top.end()
    return config


def _listen(top: Fields) -> tuple[str, int]:
    value = top.text("listen")
    host, _, port = value.rpartition(":")
    try:
        loopback = ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        loopback = False
    if not loopback or not port.isdecimal() or not 0 <= int(port) <= 65535:
        raise top.wrong("listen", value, "write a loopback address and a port: 127.0.0.1:9102")
    return host.strip("[]"), int(port)


def _collectors(fields: Fields) -> schema.Collectors:
    known: dict[str, Callable[[Fields], Any]] = {
        "nginx": _nginx,
        "certificates": _pem_files,
        "crls": _pem_files,
        "siem": _siem,
        "firewall": lambda section: schema.Firewall(section.path("log")),
        "store": lambda section: schema.Store(section.path("root")),
        "verify": lambda section: schema.Verify(section.path("evidence")),
        "clock": _clock,
        "probe": _probe,
    }
    found: dict[str, Any] = {}
    for name, make in known.items():
        section = fields.optional_section(name)
        if section is not None:
            found[name] = make(section)
            section.end()
    fields.end()
    return schema.Collectors(**found)


def _nginx(section: Fields) -> schema.Nginx:
    endpoints = section.text_map("endpoints")
    for path, name in endpoints.items():
        if not path.startswith("/") or not _LABEL.fullmatch(name) or name == schema.OTHER:
            raise section.wrong(
                "endpoints",
                {path: name},
                f"write a path and its name (a-z, 0-9, '.', '_', '-'; not {schema.OTHER!r})",
            )
    return schema.Nginx(section.path("log"), endpoints)


def _pem_files(section: Fields) -> schema.PemFiles:
    return schema.PemFiles(tuple(section.paths("paths")))


def _siem(section: Fields) -> schema.Siem:
    return schema.Siem(
        report=section.path("report"),
        stats=section.path("stats"),
        queue=section.text("queue"),
        queue_capacity=int(section.number("queue_capacity", 1, 10**9)),
    )


def _clock(section: Fields) -> schema.Clock:
    return schema.Clock(
        socket=section.path("socket"),
        max_age_seconds=section.number("max_age_seconds", 1, 10**6, default=3600),
    )


def _probe(section: Fields) -> schema.Probe:
    url = section.text("url")
    parts = urlsplit(url)
    try:
        port = parts.port or 443
    except ValueError:
        port = 0
    if parts.scheme != "https" or not parts.hostname or not parts.path or not port:
        raise section.wrong("url", url, "write https://NAME/PATH")
    probe = schema.Probe(
        host=parts.hostname,
        port=port,
        path=parts.path,
        ca=section.path("ca"),
        interval_seconds=section.number("interval_seconds", 1, 3600, default=30),
        timeout_seconds=section.number("timeout_seconds", 0.1, 300, default=10),
    )
    if probe.timeout_seconds > probe.interval_seconds:
        raise section.wrong(
            "timeout_seconds",
            probe.timeout_seconds,
            f"write no more than interval_seconds ({probe.interval_seconds:g})",
        )
    return probe
