"""The injection rules, ready to be asked about a whole text or about places in it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from tresor_gateway.guardrails import injection
from tresor_gateway.guardrails.engine import Matcher

# How far around a trigger a rule may reach (bytes).
_REACH: Final = 240
_MAX_WINDOWS: Final = 256


class Screen:
    """All rules; those with a trigger are compared around it only, because they are costly."""

    def __init__(self) -> None:
        plain, triggers = list(injection.plain()), list(injection.triggers())
        triggered = list(injection.triggered())
        self._names = [name for name, _ in plain]
        self._first = Matcher([*(pattern for _, pattern in plain), *triggers])
        self._around_names = [name for name, _ in triggered]
        self._around = Matcher([pattern for _, pattern in triggered])

    def rules(self, data: bytes, found: set[str]) -> None:
        """Add the names of the rules that match to ``found``.

        Raises:
            GuardrailError: the engine failed.
        """
        hits = self._first.scan(data)
        if not hits:
            return
        places: list[int] = []
        for number, end in hits:
            if number < len(self._names):
                found.add(self._names[number])
            else:
                places.append(end)
        for low, high in _windows(places, len(data)):
            for number, _ in self._around.scan(data[low:high]):
                found.add(self._around_names[number])


def _windows(places: Iterable[int], size: int) -> list[tuple[int, int]]:
    """Stretches around ``places`` (ascending), joined where they touch."""
    windows: list[tuple[int, int]] = []
    for place in places:
        low, high = max(0, place - _REACH), place + _REACH
        if windows and low <= windows[-1][1]:
            windows[-1] = (windows[-1][0], high)
        else:
            windows.append((low, high))
    return windows if len(windows) <= _MAX_WINDOWS else [(0, size)]
