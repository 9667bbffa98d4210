"""XID errors: read them from the kernel's log, and what NVIDIA says is to be done at once.

The buckets are the immediate actions of NVIDIA's XID catalogue (docs.nvidia.com/deploy/xid-errors);
XID 154 carries the driver's own recovery action, which counts more than the table. Standard library
only: the watcher on the hosts uses this file too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Final


class Action(IntEnum):
    """What an XID asks for, the mildest first.

    `WORKFLOW` is NVIDIA's word for errors that a person, or the XID that follows, has to judge: no
    new work goes to the host meanwhile.
    """

    IGNORE = 0
    RESTART_APP = 1
    WORKFLOW = 2
    RESTART_FABRIC = 3
    RESET_GPU = 4
    REBOOT_HOST = 5

    @property
    def word(self) -> str:
        """Return the name as records and configuration write it."""
        return self.name.lower()

    @property
    def drains(self) -> bool:
        """Return whether engines must stop first."""
        return self >= Action.WORKFLOW


def _table(rows: Mapping[Action, Iterable[int]]) -> dict[int, Action]:
    return {code: action for action, codes in rows.items() for code in codes}


KNOWN: Final = _table(
    {
        Action.IGNORE: (37, 38, 43, 44, 63, 92, 121, 137, 160),
        Action.RESTART_APP: (8, 11, 13, 25, 31, 32, 39, 40, 41, 94),
        Action.WORKFLOW: (48, 74, 144, 145, 146, 147, 149, 150),
        Action.RESET_GPU: (46, 62, 64, 95, 109, 110, 119, 120, 136, 140, 143, 155, 156, 158),
        Action.REBOOT_HOST: (79,),
    }
)
SOLO: Final = 45
"""Channels that end because of another XID; alone, the Fabric Manager is restarted."""
RECOVERY: Final = 154
_RECOVERIES: Final = (
    (re.compile(r"reboot", re.I), Action.REBOOT_HOST),
    (re.compile(r"drain p2p", re.I), Action.WORKFLOW),
    (re.compile(r"reset|flr", re.I), Action.RESET_GPU),
    (re.compile(r"none", re.I), Action.IGNORE),
)
_LINE: Final = re.compile(
    r"NVRM: Xid \(PCI:(?P<pci>[0-9a-fA-F]{4,8}:[0-9a-fA-F]{2}:[0-9a-fA-F]{2})(?:\.\d)?\):"
    r" (?P<code>\d{1,4}),? ?(?P<text>.*)"
)
_RECOVERY_TEXT: Final = re.compile(r"changed from .* to 0x[0-9a-fA-F]+ \((?P<to>[^)]*)\)")
TEXT_LIMIT: Final = 300


@dataclass(frozen=True)
class Xid:
    """One error: PCI address in the kernel's form without the function, its code and its text."""

    pci: str
    code: int
    text: str


def parse_line(line: str) -> Xid | None:
    """Return the XID of a line of the kernel's log, None for any other line."""
    match = _LINE.search(line)
    if match is None:
        return None
    domain, _, rest = match["pci"].lower().partition(":")
    return Xid(f"{domain[-4:]}:{rest}", int(match["code"]), match["text"].strip()[:TEXT_LIMIT])


def parse_log(text: str) -> list[Xid]:
    """Return the XIDs of a log, in its order."""
    return [xid for line in text.splitlines() if (xid := parse_line(line)) is not None]


def action_of(xid: Xid) -> Action | None:
    """Return what one XID asks for alone; None for one that the table does not know."""
    if xid.code == RECOVERY:
        match = _RECOVERY_TEXT.search(xid.text)
        told = match["to"] if match else ""
        return next((action for word, action in _RECOVERIES if word.search(told)), None)
    return Action.RESTART_FABRIC if xid.code == SOLO else KNOWN.get(xid.code)


@dataclass(frozen=True)
class Verdict:
    """What the XIDs of one GPU ask for together; `unknown` are codes of no bucket."""

    pci: str
    action: Action
    because: tuple[Xid, ...]
    unknown: tuple[int, ...] = ()


def judge(xids: Iterable[Xid]) -> list[Verdict]:
    """Return a verdict for each GPU that had an XID, in the order of their addresses.

    The last XID 154 of a GPU counts alone; otherwise the strongest bucket does. An XID 45 follows
    whatever else the GPU had.
    """
    by_gpu: dict[str, list[Xid]] = {}
    for xid in xids:
        by_gpu.setdefault(xid.pci, []).append(xid)
    return [_of_gpu(pci, found) for pci, found in sorted(by_gpu.items())]


def _of_gpu(pci: str, xids: list[Xid]) -> Verdict:
    unknown = tuple(dict.fromkeys(x.code for x in xids if action_of(x) is None))
    told = [x for x in xids if x.code == RECOVERY and action_of(x) is not None]
    if told:
        return Verdict(pci, action_of(told[-1]) or Action.IGNORE, (told[-1],), unknown)
    others = [x for x in xids if x.code != SOLO and action_of(x) is not None]
    counted = others or [x for x in xids if x.code == SOLO]
    if not counted:
        return Verdict(pci, Action.IGNORE, (), unknown)
    strongest = max(action_of(x) or Action.IGNORE for x in counted)
    because = tuple(x for x in counted if action_of(x) == strongest)
    return Verdict(pci, strongest, because[-1:], unknown)
