"""The one way to a `ModelShape`, whatever the model is given as."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import ModelError, shown
from . import catalogue
from .catalogue.published import from_catalogue
from .checkpoint import read_directory
from .config import shape_of
from .reduced import from_reduced, is_reduced
from .shape import ModelShape

MAX_CONFIG_CHARACTERS = 4 * 1024 * 1024


def describe(model: str | Path | Mapping[str, Any], quantization: str | None = None) -> ModelShape:
    """Return the shape of a model.

    Args:
        model: A catalogue name (the publisher's, also with a quantization in it), a directory with
            config.json and safetensors files, a Hugging Face config, or a reduced description
            (`model_id`, `family`, `config`).
        quantization: The checkpoint's format if the model's description does not hold it, for
            example `bf16`, `fp8`, `awq_int4`, `nvfp4`.

    Raises:
        ModelError: The model is not known, contradictory or hostile.
    """
    if isinstance(model, Mapping):
        try:
            text = json.dumps(model, sort_keys=True, default=_refuse)
        except (TypeError, ValueError) as error:
            raise ModelError(f"model: the config cannot be read: {error}") from error
        if len(text) > MAX_CONFIG_CHARACTERS:
            raise ModelError(f"model: the config has {len(text)} characters, which is absurd")
        return _from_text(text, quantization)
    if not isinstance(model, str | Path) or not str(model).strip():
        raise ModelError(f"model is {shown(model)}; expected a name, a directory or a config")
    path = Path(model)
    if isinstance(model, Path) or "/" in model or model.startswith("."):
        try:
            is_directory = path.is_dir()
        except (OSError, ValueError) as error:
            raise ModelError(f"model {shown(str(model))}: not a usable path: {error}") from error
        if is_directory:
            return read_directory(path, quantization)
        if path.is_absolute() or str(model).startswith("."):
            raise ModelError(f"model {shown(str(model))}: there is no such directory")
    return _from_name(str(model), quantization)


def _refuse(value: object) -> object:
    raise TypeError(f"{shown(value)} has no place in a config")


@functools.lru_cache(maxsize=256)
def _from_text(text: str, quantization: str | None) -> ModelShape:
    config = json.loads(text)
    if is_reduced(config):
        return from_reduced(config, quantization)
    name = config.get("_name_or_path") or config.get("model_type") or "given as a config"
    return shape_of(config, str(name), quantization=quantization)


@functools.lru_cache(maxsize=512)
def _from_name(name: str, quantization: str | None) -> ModelShape:
    return from_catalogue(catalogue.find(name), name, quantization)
