"""Where wheels come from: the client's own pip configuration, read and handed on to uv.

uv does not read pip's configuration, so its index and find-links settings are translated here.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from bundle.builder.command import run


@dataclass(frozen=True, slots=True)
class PipSources:
    """Index and link settings as pip sees them, in pip's order."""

    index: str | None
    extra_indexes: tuple[str, ...]
    find_links: tuple[str, ...]

    def uv_args(self, *, extra: bool) -> list[str]:
        """Return the arguments that make uv look in the same places.

        Args:
            extra: with the extra indexes, compared by version as pip does it.
        """
        args: list[str] = []
        if self.index:
            args += ["--default-index", self.index]
        for link in self.find_links:
            args += ["--find-links", link]
        if extra and self.extra_indexes:
            args += ["--index-strategy", "unsafe-best-match"]
            for index in self.extra_indexes:
                args += ["--extra-index-url", index]
        return args


def parse_config(listing: str) -> PipSources:
    """Read the output of ``pip config list``; the environment wins over files."""
    values: dict[str, dict[str, str]] = {}
    for line in listing.splitlines():
        name, separator, value = line.partition("=")
        section, _, key = name.rpartition(".")
        if separator:
            values.setdefault(key, {})[section] = value.strip().strip("'\"").replace("\\n", " ")
    return PipSources(
        index=next(iter(_setting(values, "index-url")), None),
        extra_indexes=_setting(values, "extra-index-url"),
        find_links=_setting(values, "find-links"),
    )


def _setting(values: Mapping[str, Mapping[str, str]], key: str) -> tuple[str, ...]:
    by_section = values.get(key, {})
    for section in (":env:", "download", "install", "global"):
        if section in by_section:
            return tuple(by_section[section].split())
    return ()


def pip_sources() -> PipSources:
    """Return the sources of this user's pip."""
    # A variable for uv would shadow what pip is configured for; pip is the one source of truth.
    environment = {name: "" for name in os.environ if name.startswith("UV_INDEX")}
    listing = run(
        [sys.executable, "-m", "pip", "config", "list"],
        what="read pip's configuration",
        env=environment,
    )
    return parse_config(listing)
