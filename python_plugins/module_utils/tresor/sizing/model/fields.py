"""Reading a model's config: every number has a range, every error names the field."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import ModelError, shown

# No published model comes near these; what lies beyond is a mistake or an attack.
LARGEST = 1 << 24
LARGEST_COUNT = 1 << 16
LARGEST_LAYERS = 2048

_REQUIRED = object()


class Fields:
    """A config dict with typed access. `name` is the model, for messages.

    A value of null counts as absent, as in Hugging Face's configs.
    """

    def __init__(self, config: Mapping[str, Any], name: str) -> None:
        self.config = config
        self.name = name

    def has(self, key: str) -> bool:
        """Tell whether a field is there and not null."""
        return self.config.get(key) is not None

    def integer(
        self,
        *keys: str,
        default: object = _REQUIRED,
        minimum: int = 1,
        maximum: int = LARGEST,
    ) -> int:
        """Return the first of `keys` that is there; raise `ModelError` if none is or it is bad."""
        for key in keys:
            value = self.config.get(key)
            if value is None:
                continue
            if isinstance(value, list) and value and all(item == value[0] for item in value):
                value = value[0]
            if isinstance(value, float) and value.is_integer():
                value = int(value)
            if isinstance(value, bool) or not isinstance(value, int):
                raise self.error(key, value, "a whole number")
            if not minimum <= value <= maximum:
                raise self.error(key, value, f"a whole number from {minimum} to {maximum}")
            return value
        if default is _REQUIRED:
            wanted = " or ".join(keys)
            raise ModelError(f"model {self.name}: config has no {wanted}; add it")
        if not isinstance(default, int):
            raise TypeError(f"the default of {keys[0]} must be an integer")
        return default

    def number(self, key: str, default: float, minimum: float, maximum: float) -> float:
        """Return a finite number in a range."""
        value = self.config.get(key)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.error(key, value, "a number")
        if not math.isfinite(value) or not minimum <= value <= maximum:
            raise self.error(key, value, f"a number from {minimum} to {maximum}")
        return float(value)

    def flag(self, key: str, default: bool) -> bool:
        """Return a boolean."""
        value = self.config.get(key)
        if value is None:
            return default
        if value in (0, 1):
            return bool(value)
        raise self.error(key, value, "true or false")

    def text(self, key: str, default: str = "") -> str:
        """Return a string."""
        value = self.config.get(key)
        if value is None:
            return default
        if not isinstance(value, str):
            raise self.error(key, value, "a string")
        return value

    def integers(self, key: str) -> list[int] | None:
        """Return a list of whole numbers, None if it is not there."""
        value = self.config.get(key)
        if value is None:
            return None
        if (
            not isinstance(value, list)
            or len(value) > LARGEST_LAYERS
            or not all(isinstance(item, int) and not isinstance(item, bool) for item in value)
        ):
            raise self.error(key, value, "a list of whole numbers")
        return list(value)

    def strings(self, key: str) -> list[str] | None:
        """Return a list of strings, None if it is not there."""
        value = self.config.get(key)
        if value is None:
            return None
        if (
            not isinstance(value, list)
            or len(value) > LARGEST_LAYERS
            or not all(isinstance(item, str) for item in value)
        ):
            raise self.error(key, value, "a list of strings")
        return list(value)

    def inner(self, *keys: str) -> Fields | None:
        """Return the first nested config of these names, None if there is none."""
        for key in keys:
            value = self.config.get(key)
            if value is None:
                continue
            if not isinstance(value, Mapping):
                raise self.error(key, value, "a mapping")
            return Fields(value, f"{self.name}, {key}")
        return None

    def layer_types(self, count: int, allowed: Sequence[str]) -> list[str] | None:
        """Return `layer_types` after comparing its length and names, None if it is not there."""
        types = self.strings("layer_types")
        if types is None:
            return None
        if len(types) != count:
            raise ModelError(
                f"model {self.name}: layer_types has {len(types)} entries and num_hidden_layers "
                f"is {count}; one of them is wrong"
            )
        for kind in types:
            if kind not in allowed:
                raise self.error("layer_types", kind, f"one of {', '.join(allowed)}")
        return types

    def error(self, key: str, value: object, wanted: str) -> ModelError:
        """Return the error for a field that holds something else than `wanted`."""
        return ModelError(f"model {self.name}: {key} is {shown(value)}; expected {wanted}")
