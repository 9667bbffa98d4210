"""Engines on the CPU: their KV cache is a fixed piece of the host's memory.

vLLM's CPU engine takes `VLLM_CPU_KVCACHE_SPACE` GiB and fails when the NUMA node has less; the
weights and the processes themselves come on top. Whether a request fits into that space is asked
like for a GPU; whether all engines fit into the host is added up here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from .values import Hardware, Misfit, Placed, Predict, Wanted

SPACE: Final = "VLLM_CPU_KVCACHE_SPACE"
PROCESSES_GIB: Final = 2.5
"""What an engine's processes take beside weights and KV cache: an assumption, not measured."""
SYSTEM_GIB: Final = 1.0
"""What stays for the operating system: an assumption."""


def place_on_cpu(
    hosts: Mapping[str, Hardware], wanted: Sequence[Wanted], predict: Predict
) -> tuple[list[Placed], list[Misfit]]:
    """Return the engines that fit, and the misfits."""
    placed: list[Placed] = []
    misfits: list[Misfit] = []
    for entry in wanted:
        tensor = (entry.tensor or 1) if entry.nodes > 1 else 1
        followers = entry.hosts[1:] if entry.nodes > 1 else ()
        for name in entry.hosts[:1] if entry.nodes > 1 else entry.hosts:
            prediction = predict(entry, hosts[name], tensor, None)
            if prediction.fits:
                placed.append(Placed(entry, name, (), tensor, prediction, followers=followers))
                continue
            why = (
                f"does not fit on the CPU (weights {prediction.weights_gib:.2f}, KV cache "
                f"{prediction.kv_gib:.2f} GiB): {'; '.join(prediction.reasons)}"
            )
            remedy = "; ".join(prediction.advice) or f"write a larger {SPACE}"
            misfits.append(
                Misfit(entry.model, name, prediction.fail_kind or "no_fit", why, remedy, entry.path)
            )
    misfits += [m for name, hardware in hosts.items() if (m := _full(name, hardware, placed))]
    return placed, misfits


def cpu_memory_gib(placed: Placed) -> float:
    """Return the memory that a CPU engine takes on each of its hosts."""
    return placed.weights_gib + placed.prediction.kv_gib + PROCESSES_GIB


def _full(name: str, hardware: Hardware, placed: Sequence[Placed]) -> Misfit | None:
    here = [item for item in placed if name in item.hosts]
    need = sum(cpu_memory_gib(item) for item in here) + SYSTEM_GIB
    if not here or hardware.memory_gib is None or need <= hardware.memory_gib:
        return None
    last = here[-1].wanted
    why = (
        f"the engines of the host need {need:.1f} GiB of memory together "
        f"({', '.join(f'{item.id} {cpu_memory_gib(item):.1f}' for item in here)}, system "
        f"{SYSTEM_GIB:.1f}), it has {hardware.memory_gib:g}"
    )
    remedy = f"write a smaller {SPACE}, place an engine elsewhere, or add memory"
    return Misfit(last.model, name, "host_memory", why, remedy, last.path)
