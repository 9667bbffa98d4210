"""Everything a test opens is closed after it; a test may leave it as a killed process would."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tresor_siem.link import Link
from tresor_siem.spool import Spool


@pytest.fixture(autouse=True)
def _closing(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    opened: list[Any] = []
    for kind in (Spool, Link):
        begin = kind.__init__

        def record(self: Any, *arguments: Any, _begin: Any = begin, **named: Any) -> None:
            _begin(self, *arguments, **named)
            opened.append(self)

        monkeypatch.setattr(kind, "__init__", record)
    yield
    for thing in opened:
        thing.close()
