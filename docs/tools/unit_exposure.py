"""Read the table of unit sandboxes in docs/security.md, and compare it with what hosts show.

``docs/tools/unit_exposure.py`` compares the table's rows with the units in ``roles/`` and exits 1
where they differ; the lab's tests compare its figures with `systemd-analyze security` on each host.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT = Path(__file__).resolve().parents[2]
PAGE = Path("docs/security.md")
TOLERANCE: Final = 0.3
"""Versions of systemd weigh a few settings differently."""
_ROW: Final = re.compile(
    r"^\| `(?P<unit>[a-z0-9@-]+)` \| (?P<seen>[0-9.]+|-) \| (?P<most>[0-9.]+|-) \| ?"
    r"(?P<why>.*?) ?\|$",
    re.MULTILINE,
)


@dataclass(frozen=True)
class Row:
    """What the page says of a unit; None where it was not measured, or is held to nothing."""

    seen: float | None
    most: float | None
    why: str


def rows(page: str) -> dict[str, Row]:
    """Return the table's rows by unit, without `.service`."""
    return {
        found["unit"]: Row(_number(found["seen"]), _number(found["most"]), found["why"])
        for found in _ROW.finditer(page)
    }


def units(root: Path) -> set[str]:
    """Return the services that roles write, without `.service`."""
    return {
        path.name.removesuffix(".service.j2")
        for path in root.glob("roles/*/templates/**/tresor-*.service.j2")
    }


def stale(table: Mapping[str, Row], services: Iterable[str]) -> list[str]:
    """Return where the table's rows are not the services, or say nothing."""
    known = set(services)
    return [
        *(f"{unit} has no row: measure it in the lab" for unit in sorted(known - set(table))),
        *(f"{unit} is no unit of a role: remove its row" for unit in sorted(set(table) - known)),
        *(
            f"{unit} is held to nothing, or was not measured, and its row does not say why"
            for unit, row in sorted(table.items())
            if (row.most is None or row.seen is None) and not row.why
        ),
        *(
            f"{unit} has {row.seen}, more than {row.most}"
            for unit, row in sorted(table.items())
            if row.seen is not None and row.most is not None and row.seen > row.most
        ),
    ]


def differences(table: Mapping[str, Row], measured: Mapping[str, float]) -> list[str]:
    """Return where a host shows something else than the table."""
    found = []
    for unit, exposure in sorted(measured.items()):
        row = table.get(unit)
        if row is None:
            found.append(f"{unit} has {exposure} and no row")
            continue
        if row.most is not None and exposure > row.most:
            found.append(f"{unit} has {exposure}, more than {row.most}")
        if row.seen is not None and abs(exposure - row.seen) > TOLERANCE + 1e-9:
            found.append(f"{unit} has {exposure}, the page says {row.seen}")
    return found


def main(root: Path = ROOT) -> int:
    """Compare rows and units."""
    found = stale(rows((root / PAGE).read_text(encoding="utf-8")), units(root))
    for text in found:
        print(f"{PAGE}: {text}", file=sys.stderr)
    return 1 if found else 0


def _number(text: str) -> float | None:
    return None if text == "-" else float(text)


if __name__ == "__main__":
    sys.exit(main())
