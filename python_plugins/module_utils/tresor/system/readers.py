"""Which running services read given files: asked of systemd and of the services' configuration.

A service of the site names its certificate in its unit (``LoadCredential=``), or in a
configuration file that its command line names. Both are text, so the answer needs no list that
somebody must keep.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from .units import systemctl

_MAX_CONFIGURATION_BYTES = 1 << 20


@dataclass(frozen=True)
class Reader:
    """A running service and the files it reads, out of those asked for."""

    unit: str
    files: tuple[Path, ...]


def running(pattern: str) -> list[str]:
    """Return the names of active services that match ``pattern``.

    Raises:
        SystemStateError: systemctl failed.
    """
    listed = systemctl(
        "list-units", "--type=service", "--state=active", "--plain", "--no-legend", "--", pattern
    )
    return sorted(line.split()[0] for line in listed.splitlines() if line.strip())


def readers(pattern: str, files: Sequence[Path], folder: Path) -> list[Reader]:
    """Return the running services that read one of ``files``, sorted by name.

    Args:
        pattern: which services, with wildcards.
        files: what they may read.
        folder: configuration files that a unit names are looked into when they lie below it.

    Raises:
        SystemStateError: systemctl failed.
    """
    found = []
    for unit in running(pattern):
        text = systemctl("cat", "--", unit)
        used = used_in([text, *_configurations(text, folder)], files)
        if used:
            found.append(Reader(unit, used))
    return found


def used_in(texts: Iterable[str], files: Sequence[Path]) -> tuple[Path, ...]:
    """Return those of ``files`` whose whole path stands in one of ``texts`` outside comments."""
    content = "\n".join(
        line for text in texts for line in text.splitlines() if not line.lstrip().startswith("#")
    )
    return tuple(
        path
        for path in files
        if re.search(rf"(?<![\w./-]){re.escape(str(path))}(?![\w/-]|\.\w)", content)
    )


def _configurations(unit_text: str, folder: Path) -> list[str]:
    texts = []
    for word in sorted(set(re.findall(rf"{re.escape(str(folder))}/[\w./@-]+", unit_text))):
        path = Path(word)
        if path.is_file() and path.stat().st_size <= _MAX_CONFIGURATION_BYTES:
            texts.append(path.read_text(encoding="utf-8", errors="replace"))
    return texts
