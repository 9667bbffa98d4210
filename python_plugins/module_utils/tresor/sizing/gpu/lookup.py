"""Find a card by the names that inventories, nvidia-smi and published tables give it."""

from __future__ import annotations

import difflib
import re
from functools import cache
from typing import Final

from ..errors import SizingError
from . import amd, datacenter, pcie_cards
from .gpu import Gpu

MEMORY_TOLERANCE: Final = 0.08
MAX_NAME: Final = 200
_VARIANTS: Final = {
    "sxm": "sxm",
    "sxm2": "sxm",
    "sxm4": "sxm",
    "sxm5": "sxm",
    "sxm6": "sxm",
    "hgx": "sxm",
    "hbm3": "sxm",
    "pcie": "pcie",
    "nvl": "nvl",
    "server": "server",
    "se": "server",
    "workstation": "workstation",
    "maxq": "maxq",
    "laptop": "laptop",
}
_MEMORY: Final = re.compile(r"(\d+(?:\.\d+)?)(?:gb|gib|g)")
_PARENTHESES: Final = re.compile(r"\([^)]*\)")
_COUNT: Final = re.compile(r"^\d+\s*x\s+")
_WORDS: Final = re.compile(r"[a-z0-9.]+")
_DROPPED: Final = frozenset(
    {"nvidia", "amd", "geforce", "tesla", "instinct", "quadro", "gpu", "rtx", "generation"}
)


class UnknownGpuError(SizingError):
    """The catalogue has no such card, or the name fits several that differ."""


def catalogue() -> tuple[Gpu, ...]:
    """Return every card of the catalogue."""
    return datacenter.CARDS + amd.CARDS + pcie_cards.CARDS


def names() -> tuple[str, ...]:
    """Return the name of every card."""
    return tuple(gpu.name for gpu in catalogue())


def find(name: str) -> Gpu:
    """Return the card that ``name`` means.

    Reads the catalogue's names, short names such as ``h100``, nvidia-smi's product names such as
    ``NVIDIA A100-SXM4-80GB``, with or without a remark in parentheses or a count such as ``8x``.

    Raises:
        UnknownGpuError: no card has that name, or it fits cards with different memory; the text
            names the nearest ones.
    """
    if not isinstance(name, str) or not name.strip() or len(name) > MAX_NAME:
        raise UnknownGpuError(
            f"the GPU is named {str(name)[:40]!r}: write a name such as {names()[0]!r}"
        )
    return _find(name)


@cache
def _find(name: str) -> Gpu:
    text = _COUNT.sub("", name.lower().strip())
    plain = _PARENTHESES.sub(" ", text)
    for reading in (text, plain):
        words = _words(reading)
        exact = _short_names().get(" ".join(words))
        if exact is not None:
            return exact
    candidates = _candidates(_words(plain), _words(text))
    if not candidates:
        raise UnknownGpuError(_unknown(name))
    if len(candidates) > 1:
        listed = ", ".join(repr(gpu.name) for gpu in candidates)
        raise UnknownGpuError(f"the GPU {name!r} can be {listed}: write one of these names")
    return candidates[0]


def _words(text: str) -> list[str]:
    joined = text.replace("max-q", "maxq").replace("max q", "maxq")
    joined = joined.replace("6000 ada", "6000ada").replace("pro 6000", "pro6000")
    joined = re.sub(r"(\d)\s+(gb|gib)\b", r"\1\2", joined)
    words = _WORDS.findall(joined.replace("dgx spark", "gb10"))
    return [word for word in words if word not in _DROPPED]


@cache
def _short_names() -> dict[str, Gpu]:
    table: dict[str, Gpu] = {}
    for gpu in catalogue():
        for alias in (gpu.name, *gpu.aliases):
            table[" ".join(_words(alias.lower()))] = gpu
    return table


def _candidates(words: list[str], all_words: list[str]) -> list[Gpu]:
    """Return the cards of the named family, narrowed by form factor and memory where named."""
    found = [gpu for gpu in catalogue() if gpu.family in words]
    variants = {_VARIANTS[word] for word in words if word in _VARIANTS}
    if variants:
        named = [gpu for gpu in found if gpu.variant in variants or not gpu.variant]
        found = named or ([] if "laptop" in variants else found)
    sizes = [float(match[1]) for word in all_words if (match := _MEMORY.fullmatch(word))]
    if sizes:
        found = [gpu for gpu in found if any(_same_memory(gpu, size) for size in sizes)]
    if len(found) > 1 and not variants:
        found = _one_per_memory(found)
    return found


def _same_memory(gpu: Gpu, size: float) -> bool:
    return any(
        abs(size - known) <= MEMORY_TOLERANCE * known for known in (gpu.memory_gb, gpu.total_gib)
    )


def _one_per_memory(found: list[Gpu]) -> list[Gpu]:
    """Keep the first card of each memory size: the catalogue lists the usual form factor first."""
    kept: dict[float, Gpu] = {}
    for gpu in found:
        kept.setdefault(gpu.memory_gb, gpu)
    return list(kept.values())


def _unknown(name: str) -> str:
    words = _words(name.lower())
    known = _short_names()
    near = difflib.get_close_matches(" ".join(words), known, n=3, cutoff=0.5)
    listed = ", ".join(dict.fromkeys(repr(known[key].name) for key in near)) or repr(names()[0])
    return f"the GPU {name!r} is not in the catalogue: did you mean {listed}?"
