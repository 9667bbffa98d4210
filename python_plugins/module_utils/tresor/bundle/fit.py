"""Is a verified bundle meant for this site and this machine, now? Pure."""

from __future__ import annotations

import platform
import sys
from dataclasses import dataclass
from datetime import datetime, timedelta

from .errors import EnvironmentNotReadyError, RejectedError
from .journal import time_text
from .manifest import Audience, BundleManifest

CLOCK_TOLERANCE = timedelta(hours=24)
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True, slots=True)
class Request:
    """What the operator asked for."""

    site: str
    root_sha256: str | None
    accept_lab: bool


@dataclass(frozen=True, slots=True)
class Machine:
    """This computer, as far as a bundle's audience cares; empty means unknown."""

    arch: str
    os: str
    glibc: str = ""
    python: str = ""

    @classmethod
    def here(cls) -> Machine:
        """Read it from the kernel, the C library and ``/etc/os-release``."""
        info = platform.freedesktop_os_release()
        arch = platform.machine()
        library, version = platform.libc_ver()
        return cls(
            _ARCHITECTURES.get(arch, arch),
            f"{info.get('ID', '')}-{info.get('VERSION_ID', '')}",
            version if library == "glibc" else "",
            f"{sys.version_info[0]}.{sys.version_info[1]}",
        )


def check_time(manifest: BundleManifest, now: datetime, floor: datetime) -> None:
    """Refuse a bundle whose time is over, by the clock or by any signed time seen here.

    Raises:
        RejectedError: ``fit.expired``.
        EnvironmentNotReadyError: ``environment.clock``: the clock is behind the bundle.
    """
    if manifest.created > now + CLOCK_TOLERANCE:
        raise EnvironmentNotReadyError(
            "environment.clock",
            f"the bundle was made at {time_text(manifest.created)}, this clock says "
            f"{time_text(now)}: set the clock and repeat the command",
        )
    if max(now, floor) >= manifest.expires:
        raise RejectedError("fit.expired", f"ended at {time_text(manifest.expires)}")


def check_audience(audience: Audience, site: str, machine: Machine) -> None:
    """Refuse a bundle for another site or another kind of machine.

    Raises:
        RejectedError: ``fit.site``, ``fit.arch``, ``fit.os``, ``fit.glibc``, ``fit.python``.
    """
    for rule, allowed, seen in (
        ("fit.site", (audience.site,), site),
        ("fit.arch", audience.arch, machine.arch),
        ("fit.os", audience.os, machine.os),
        ("fit.python", audience.python or ("*",), machine.python),
    ):
        if seen not in allowed and "*" not in allowed:
            raise RejectedError(rule, f"made for {', '.join(allowed)}, this is {seen!r}")
    if audience.glibc is not None and _version(machine.glibc) < audience.glibc:
        wanted = ".".join(str(number) for number in audience.glibc)
        raise RejectedError(
            "fit.glibc", f"needs glibc {wanted} or newer, this is {machine.glibc or 'unknown'!r}"
        )


def check_scope(manifest: BundleManifest, *, accept_lab: bool) -> None:
    """Refuse parts that are only for a lab, unless this is one.

    Raises:
        RejectedError: ``fit.scope``.
    """
    if "lab" in manifest.scopes and not accept_lab:
        names = [part.name for part in manifest.parts if part.scope == "lab"]
        raise RejectedError(
            "fit.scope",
            f"parts for the lab: {', '.join(names)}. Only a lab imports them, with "
            "--accept-scope lab",
        )


def _version(text: str) -> tuple[int, ...]:
    """Return ``2.36`` as numbers; nothing for an unknown version, which is older than any."""
    words = text.split(".")
    return tuple(int(word) for word in words) if all(word.isdigit() for word in words) else ()
