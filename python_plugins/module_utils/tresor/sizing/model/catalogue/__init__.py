"""The shipped catalogue: configs of current open models, so that planning needs no download.

Each entry is the part of the published `config.json` that memory and speed depend on. Names are the
publishers'; a name that adds a quantization (`-AWQ`, `-FP8-dynamic`) or a tuning (`-Instruct`) to a
known one is resolved to it.
"""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...errors import ModelError, listed, shown
from . import (
    deepseek,
    encoder,
    google,
    hybrid,
    llama,
    misc,
    mistral,
    moe,
    more,
    qwen,
    qwen_vision,
)

_ENTRIES: Mapping[str, Mapping[str, object]] = {
    **llama.MODELS,
    **qwen.MODELS,
    **qwen_vision.MODELS,
    **mistral.MODELS,
    **google.MODELS,
    **deepseek.MODELS,
    **moe.MODELS,
    **hybrid.MODELS,
    **misc.MODELS,
    **more.MODELS,
    **encoder.MODELS,
}

# How a name says that it is a quantized copy: the pattern, and the quantization it stands for.
_QUANTIZED: tuple[tuple[str, str], ...] = (
    (r"-(unsloth-)?bnb-4bit", "bitsandbytes"),
    (r"-fp8-dynamic", "fp8_dynamic"),
    (r"-fp8-block", "fp8_block"),
    (r"[-.]fp8(-kv)?", "fp8"),
    (r"-gptq-int8", "gptq_int8"),
    (r"-int4-autoround|-autoround(-int4)?", "gptq_int4"),
    (r"-quantized\.w8a8|-int8|-w8a8", "int8_w8a8"),
    (r"-quantized\.w8a16|-w8a16", "int8_w8a16"),
    (r"-quantized\.w4a16|-w4a16(-g128)?", "int4_w4a16"),
    (r"-awq(-int4|-4bit)?", "awq_int4"),
    (r"-gptq(-int4|-4bit)?", "gptq_int4"),
    (r"-int4|-4bit", "int4_w4a16"),
    (r"-nvfp4(a16)?|-fp4", "nvfp4"),
    (r"-mxfp4", "mxfp4"),
)
_TUNED = re.compile(
    r"-(instruct|it|chat|base|hf|pt|thinking|reasoning|bf16|fp16|v\d+(\.\d+)*|\d{4})$"
)
# What an entry says besides the config.
_OWN = ("aliases", "embeds")
_MAKER = re.compile(r"^(meta-)(?=llama)")


@dataclass(frozen=True)
class Found:
    """A catalogue entry: its own name, its config, and the quantization that the name implied.

    `embeds` says that the publisher's directory makes engines serve embeddings, though its
    architecture is that of a generating model.
    """

    name: str
    config: Mapping[str, Any]
    quantization: str | None
    embeds: bool = False


def names() -> list[str]:
    """Return the names of all entries, sorted."""
    return sorted(_ENTRIES)


@functools.cache
def _index() -> Mapping[str, str]:
    index: dict[str, str] = {}
    for name, entry in _ENTRIES.items():
        for alias in (name, *_aliases(entry)):
            index[_key(alias)] = name
    # Shortened names lead on only where they mean one model.
    shortened: dict[str, set[str]] = {}
    for key, name in index.items():
        shortened.setdefault(_untuned(key), set()).add(name)
    for key, found in shortened.items():
        if len(found) == 1:
            index.setdefault(key, next(iter(found)))
    return index


def _untuned(key: str) -> str:
    while _TUNED.search(key):
        key = _TUNED.sub("", key)
    return key


def _aliases(entry: Mapping[str, object]) -> list[str]:
    aliases = entry.get("aliases", [])
    return aliases if isinstance(aliases, list) else []


def _key(name: str) -> str:
    key = re.sub(r"\s*\(.*\)\s*$", "", name.strip()).rpartition("/")[2].lower()
    return _MAKER.sub("", key)


@functools.lru_cache(maxsize=4096)
def find(name: str) -> Found:
    """Return the entry of a name; raise `ModelError` with near names when there is none."""
    index = _index()
    key, implied = _key(name), None
    noted = re.search(r"\((.*)\)", name)
    if noted:
        implied = _implied(noted.group(1).lower())
    if key not in index:
        for pattern, quantization in _QUANTIZED:
            shorter = re.sub(rf"({pattern})$", "", key)
            if shorter != key:
                key, implied = shorter, implied or quantization
                break
    while key not in index and _TUNED.search(key):
        key = _TUNED.sub("", key)
    if implied == "fp8" and name.lower().startswith("qwen/"):
        # The publisher's own FP8 copies have scales per block.
        implied = "fp8_block"
    if key not in index:
        near = difflib.get_close_matches(_key(name), list(index), n=5, cutoff=0.5)
        names_near = dict.fromkeys(index[one] for one in near)
        hint = f"near names: {listed(names_near)}" if near else ""
        raise ModelError(
            f"model {shown(name)} is not in the catalogue"
            f"{'; ' + hint if hint else ''}; give a directory with config.json or the config itself"
        )
    entry = _ENTRIES[index[key]]
    config = {field: value for field, value in entry.items() if field not in _OWN}
    return Found(index[key], config, implied, bool(entry.get("embeds")))


def _implied(note: str) -> str | None:
    for word in ("nvfp4", "mxfp4", "awq", "gptq", "fp8"):
        if word in note:
            return {"awq": "awq_int4", "gptq": "gptq_int4"}.get(word, word)
    return None
