"""Read what iptables-save prints: compare rulesets, find foreign rules."""

from __future__ import annotations

import re
from typing import Final

_COUNTERS: Final = re.compile(r"\[\d+:\d+\]")


def filter_table(text: str) -> str:
    """Return the filter table without counters, times and the program's remarks.

    A table that does not exist, or is empty and accepts, gives an empty text: the kernel treats
    them alike.
    """
    lines = _tables(text).get("filter", [])
    return "\n".join(lines) + "\n" if _has_effect(lines) else ""


def foreign_tables(text: str) -> list[str]:
    """Return the names of tables besides filter that hold rules or drop by policy."""
    return sorted(
        name for name, lines in _tables(text).items() if name != "filter" and _has_effect(lines)
    )


def foreign_remarks(text: str) -> list[str]:
    """Return what the program says about rules it can see but not show."""
    return [
        line.lstrip("# ").strip()
        for line in text.splitlines()
        if line.startswith("#") and ("legacy tables present" in line or "incompatible" in line)
    ]


def _tables(text: str) -> dict[str, list[str]]:
    tables: dict[str, list[str]] = {}
    current: list[str] = []
    for raw in text.splitlines():
        line = raw.strip()
        if line.startswith("*"):
            current = tables.setdefault(line[1:], [])
        elif line and not line.startswith("#") and line != "COMMIT":
            current.append(_COUNTERS.sub("", line).strip())
    return tables


def _has_effect(lines: list[str]) -> bool:
    return any(not (line.startswith(":") and line.endswith(" ACCEPT")) for line in lines)
