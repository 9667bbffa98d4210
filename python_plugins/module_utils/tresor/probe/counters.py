"""Read iptables-save output: counters of named rules, and rules without their counters."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass

_COUNTED = re.compile(r"^\[(\d+):(\d+)\] (-A .*)$")
_CHAIN = re.compile(r"^(:\S+ \S+)(?: \[\d+:\d+\])?$")


@dataclass(frozen=True)
class DropCounter:
    """Sum over the dropping rules that bear one comment."""

    rules: int
    packets: int


@dataclass(frozen=True)
class Saved:
    """What verify reads from one family's rules."""

    dropped: DropCounter
    policies: dict[str, str]


class RulesFormatError(ValueError):
    """The text is not what iptables-save -c writes."""


def drop_counter(saved: str, comment: str) -> DropCounter:
    """Return the packets counted by the DROP rules with that comment, over all their chains.

    Rules that only log under the same comment do not count: they drop nothing.

    Raises:
        RulesFormatError: a rule has no counter (iptables-save ran without -c).
    """
    rules = packets = 0
    for line in saved.splitlines():
        if "-A " not in line or line.startswith("#"):
            continue
        match = _COUNTED.match(line)
        if match is None:
            raise RulesFormatError(f"a rule without a counter: {line!r}; save with -c")
        words = shlex.split(match[3])
        if _option(words, "--comment") == comment and _option(words, "-j") == "DROP":
            rules += 1
            packets += int(match[1])
    return DropCounter(rules, packets)


def policies(saved: str) -> dict[str, str]:
    """Return the policies of the filter table's chains; other tables have chains of those names."""
    found: dict[str, str] = {}
    table = ""
    for line in saved.splitlines():
        if line.startswith("*"):
            table = line[1:].strip()
        match = _CHAIN.match(line)
        if match and table == "filter":
            chain, _, policy = match[1][1:].partition(" ")
            found[chain] = policy
    return found


def without_counters(saved: str) -> list[str]:
    """Return tables, chains with policies, and rules: what must be equal before and after."""
    lines: list[str] = []
    for line in saved.splitlines():
        if not line or line.startswith("#"):
            continue
        counted = _COUNTED.match(line)
        chain = _CHAIN.match(line)
        lines.append(counted[3] if counted else chain[1] if chain else line)
    return lines


def _option(words: list[str], name: str) -> str | None:
    for index, word in enumerate(words[:-1]):
        if word == name:
            return words[index + 1]
    return None
