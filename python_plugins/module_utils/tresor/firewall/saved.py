"""Read what iptables-save prints: compare rulesets, find foreign rules, read counters."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_COUNTERS: Final = re.compile(r"\[(\d+):(\d+)\]")
_COMMENT: Final = re.compile(r'--comment "?([a-z]+:[a-z0-9-]+)"?')


@dataclass(frozen=True)
class Counter:
    """How often the rules with one comment matched, since they were loaded."""

    packets: int
    bytes: int


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


def counters(text: str) -> dict[str, Counter]:
    """Return the counters by comment (`flow:ssh`, `drop:out`), summed over equal comments.

    `text` is the output of iptables-save with `--counters`.
    """
    found: dict[str, Counter] = {}
    for line in text.splitlines():
        count, comment = _COUNTERS.match(line), _COMMENT.search(line)
        if count is None or comment is None:
            continue
        before = found.get(comment[1], Counter(0, 0))
        found[comment[1]] = Counter(before.packets + int(count[1]), before.bytes + int(count[2]))
    return found


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
