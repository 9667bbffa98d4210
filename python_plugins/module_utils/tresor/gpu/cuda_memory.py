"""Ask the CUDA driver how much memory of each GPU a program sees.

This is the figure that vLLM multiplies with its utilization. It is smaller than what nvidia-smi
prints, because the driver keeps a part, and only the library knows it. The library is asked in a
process of its own: `cuInit` can hang on a broken GPU, and it must not see the caller's
CUDA_VISIBLE_DEVICES.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
from collections.abc import Callable, Mapping
from typing import Any, Final

from .values import ReadingError, pci_address

LIBRARY: Final = "libcuda.so.1"
_ADDRESS_LENGTH: Final = 32
_ANSWER_LIMIT: Final = 65536
_HIDING: Final = ("CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES")


def cuda_memory(timeout_s: float, load: Callable[[], Any] | None = None) -> Mapping[str, int]:
    """Return bytes by PCI address; raises ReadingError with the reason if CUDA cannot tell.

    `load` gives the library and exists for tests. With MIG on, CUDA shows one instance of a GPU
    and its share of memory.
    """
    receiver, sender = os.pipe()
    child = os.fork()
    if child == 0:
        _answer(sender, load or _load)
    os.close(sender)
    try:
        ready, _, _ = select.select([receiver], [], [], timeout_s)
        raw = os.read(receiver, _ANSWER_LIMIT) if ready else None
    finally:
        os.close(receiver)
        os.kill(child, signal.SIGKILL)
        # Not waited for: a process that hangs in the driver does not even end by SIGKILL.
        os.waitpid(child, os.WNOHANG)
    if raw is None:
        raise ReadingError(f"CUDA gave no answer within {timeout_s:g} s")
    if not raw:
        raise ReadingError("the process that asked CUDA died")
    answer = json.loads(raw)
    if "problem" in answer:
        raise ReadingError(answer["problem"])
    found: dict[str, int] = answer["memory"]
    return found


def _answer(sender: int, load: Callable[[], Any]) -> None:
    """Write the answer and end the process, whatever happens; nothing of the caller runs on."""
    status = 1
    try:
        for name in _HIDING:
            os.environ.pop(name, None)
        os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
        try:
            answer: dict[str, Any] = {"memory": read_memory(load())}
        except OSError as error:
            answer = {"problem": f"{LIBRARY} cannot be loaded: {error}"}
        except ReadingError as error:
            answer = {"problem": str(error)}
        os.write(sender, json.dumps(answer).encode())
        status = 0
    finally:
        os._exit(status)


def _load() -> Any:  # noqa: ANN401 - a library of ctypes has the functions that it has
    return ctypes.CDLL(LIBRARY)


def read_memory(library: Any) -> dict[str, int]:  # noqa: ANN401 - as `_load`
    """Ask a loaded CUDA driver library; see `cuda_memory`."""
    _check(library.cuInit(0), "cuInit")
    count = ctypes.c_int()
    _check(library.cuDeviceGetCount(ctypes.byref(count)), "cuDeviceGetCount")
    found: dict[str, int] = {}
    for index in range(count.value):
        device, size = ctypes.c_int(), ctypes.c_size_t()
        address = ctypes.create_string_buffer(_ADDRESS_LENGTH)
        _check(library.cuDeviceGet(ctypes.byref(device), index), "cuDeviceGet")
        _check(library.cuDeviceGetPCIBusId(address, _ADDRESS_LENGTH, device), "cuDeviceGetPCIBusId")
        _check(library.cuDeviceTotalMem_v2(ctypes.byref(size), device), "cuDeviceTotalMem")
        found[pci_address(address.value.decode("ascii"))] = size.value
    return found


def _check(status: int, function: str) -> None:
    if status != 0:
        raise ReadingError(f"{function} answered with error {status} of the CUDA driver")
