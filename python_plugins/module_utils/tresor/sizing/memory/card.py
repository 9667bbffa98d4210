"""The card of a request: from the catalogue, or just its memory."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

from ..errors import SizingError
from ..gpu import find
from ..model.quantization import Quantization
from .engine import Engine

# Remarks such as "12GB card (12288 MiB)": nvidia-smi's total. Torch sees less; on the catalogue's
# cards the difference is 0.37 to 0.59 GiB, whatever their size.
_REMARK = re.compile(r"(\d{3,7})\s*MiB|(\d{1,4}\.\d{1,3})\s*GiB")
_DRIVER_MIB = 470

CPU = "cpu"


@dataclass(frozen=True)
class Card:
    """Name, memory as torch sees it in GiB, compute capability x 10 (0: unknown), and SMs."""

    name: str
    total_gib: float
    capability: int = 0
    multiprocessors: int = 132
    vendor: str = "nvidia"
    known: bool = True

    def modest(self, engine: Engine) -> bool:
        """Tell whether vLLM gives it the batch defaults of small cards, whatever its memory.

        It does so for the A100 since 0.9 and for the GB10 since 0.33. Source: `get_batch_defaults`
        in `engine/arg_utils.py`.
        """
        if "a100" in self.name.lower():
            return engine.since(9)
        return self.capability == 121 and engine.since(33)

    @property
    def big_blackwell(self) -> bool:
        """Whether it is a Blackwell card for data centres (vLLM's capability family 100)."""
        return self.vendor == "nvidia" and 100 <= self.capability < 110

    def quantization_problems(self, quantization: Quantization, engine: Engine) -> list[str]:
        """Return why card and engine cannot run a checkpoint's formats; empty if they can."""
        found = []
        for one in quantization.formats:
            if engine.since(one.gone_since):
                found.append(
                    f"vLLM 0.{engine.version[1]} no longer loads {one.name}; use another format or "
                    f"a version before 0.{one.gone_since}"
                )
            if not self.capability or self.vendor != "nvidia":
                continue
            low, high = one.minimum_capability / 10, one.maximum_capability / 10
            if self.capability < 10 * low:
                needs = f"{low:.1f} or more"
            elif self.capability > 10 * high:
                needs = f"{high:.1f} or less"
            else:
                continue
            found.append(
                f"{self.name} (compute capability {self.capability / 10:.1f}) cannot run "
                f"{one.name}, which needs {needs}"
            )
        return found


@functools.lru_cache(maxsize=1024)
def card_of(name: str | None, total_gib: float | None) -> Card:
    """Return the card; a memory size given explicitly overrides the catalogue's.

    Raises `SizingError` for a name that is not in the catalogue when no memory size is given.
    """
    if name is None:
        if total_gib is None:
            raise SizingError("gpu and gpu_total_gib are missing; give at least one of them")
        return Card("a card of that size", total_gib, known=False)
    try:
        gpu = find(name)
    except SizingError:
        remark = _REMARK.search(name)
        if total_gib is None and remark is None:
            raise
        if total_gib is None and remark is not None:
            mib = int(remark[1]) - _DRIVER_MIB if remark[1] else float(remark[2]) * 1024
            total_gib = mib / 1024
        return Card(name, float(total_gib or 0.0), known=False)
    major, minor = gpu.compute_capability
    return Card(
        gpu.name, total_gib or gpu.total_gib, major * 10 + minor, gpu.sms or 132, gpu.vendor
    )
