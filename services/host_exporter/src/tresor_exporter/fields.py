"""A mapping of the configuration whose keys are taken one by one; what is left is a mistake."""

from __future__ import annotations

import difflib
import math
from pathlib import Path
from typing import Any, Final

from tresor_exporter.errors import ConfigError

_MISSING: Final = object()


class Fields:
    """Takes values by key and type; every error names place, value seen and what to do."""

    def __init__(self, data: object, place: str) -> None:
        if not isinstance(data, dict):
            raise ConfigError(f"{place}: is {_kind(data)}; write a mapping")
        self._data = dict(data)
        self._place = place
        self._known: list[str] = []

    def wrong(self, key: str, value: object, fix: str) -> ConfigError:
        """Return the error for a value that cannot be used."""
        return ConfigError(f"{self._place}: {key} is {value!r}; {fix}")

    def end(self) -> None:
        """Refuse keys that nobody took."""
        for key in self._data:
            close = difflib.get_close_matches(str(key), self._known, 1)
            hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(self._known)}"
            raise ConfigError(f"{self._place}: unknown key {key!r}; {hint}")

    def text(self, key: str, default: str | None = None) -> str:
        """Take a text that is not empty, unless empty is the default."""
        value = self._take(key, default)
        if not isinstance(value, str) or (not value and value != default):
            raise self.wrong(key, value, "write a text")
        return value

    def path(self, key: str) -> Path:
        """Take an absolute path."""
        return self._path(key, self._take(key))

    def paths(self, key: str) -> list[Path]:
        """Take a list of absolute paths, each once."""
        values = [self._path(key, value) for value in self._list(key)]
        if len(set(values)) != len(values):
            raise self.wrong(key, [str(value) for value in values], "name each file once")
        return values

    def number(
        self, key: str, lowest: float, highest: float, default: float | None = None
    ) -> float:
        """Take a number within bounds."""
        value = self._take(key, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self.wrong(key, value, "write a number")
        if not math.isfinite(value) or not lowest <= value <= highest:
            raise self.wrong(key, value, f"write a number from {lowest:g} to {highest:g}")
        return float(value)

    def text_map(self, key: str) -> dict[str, str]:
        """Take a mapping of texts to texts."""
        value = self._take(key)
        if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
            raise self.wrong(key, value, "write a mapping of texts")
        return dict(value)

    def section(self, key: str) -> Fields:
        """Take a mapping."""
        return Fields(self._take(key), f"{self._place}: {key}")

    def optional_section(self, key: str) -> Fields | None:
        """Take a mapping, None if the key is absent."""
        self._known.append(key)
        return self.section(key) if key in self._data else None

    def _list(self, key: str) -> list[Any]:
        value = self._take(key)
        if not isinstance(value, list):
            raise self.wrong(key, value, "write a list")
        return value

    def _path(self, key: str, value: object) -> Path:
        if not isinstance(value, str) or not value.startswith("/"):
            raise self.wrong(key, value, "write an absolute path")
        return Path(value)

    def _take(self, key: str, default: object = None) -> object:
        self._known.append(key)
        value = self._data.pop(key, _MISSING)
        if value is not _MISSING:
            return value
        if default is None:
            raise ConfigError(f"{self._place}: {key} is missing; add it")
        return default


def _kind(value: object) -> str:
    return {list: "a list", str: "a text", type(None): "empty"}.get(type(value), repr(value))
