"""The memory a program sees is asked of the CUDA driver library, in a process that may hang."""

from __future__ import annotations

import ctypes
import os
import time
from typing import Any

import pytest

from tresor.gpu.cuda_memory import cuda_memory, read_memory
from tresor.gpu.values import ReadingError

H100_BYTES = 85017624576
"""What torch sees of an H100 80GB: 79.18 GiB."""

forks = pytest.mark.filterwarnings("ignore::DeprecationWarning")


class FakeLibrary:
    """The functions of libcuda that are used, for two GPUs."""

    def __init__(self, status: int = 0) -> None:
        self.status = status

    def cuInit(self, _flags: int) -> int:  # noqa: N802
        return self.status

    def cuDeviceGetCount(self, count: Any) -> int:  # noqa: N802
        count._obj.value = 2
        return 0

    def cuDeviceGet(self, device: Any, index: int) -> int:  # noqa: N802
        device._obj.value = index
        return 0

    def cuDeviceGetPCIBusId(self, buffer: Any, _length: int, device: ctypes.c_int) -> int:  # noqa: N802
        buffer.value = (b"0000:18:00.0", b"0000:2A:00.0")[device.value]
        return 0

    def cuDeviceTotalMem_v2(self, size: Any, _device: ctypes.c_int) -> int:  # noqa: N802
        size._obj.value = H100_BYTES
        return 0


class Hanging(FakeLibrary):
    def cuInit(self, _flags: int) -> int:  # noqa: N802
        time.sleep(60)
        return 0


class Dying(FakeLibrary):
    def cuInit(self, _flags: int) -> int:  # noqa: N802
        os._exit(3)


def test_bytes_are_told_by_pci_address() -> None:
    assert read_memory(FakeLibrary()) == {"0000:18:00.0": H100_BYTES, "0000:2a:00.0": H100_BYTES}


@forks
def test_answer_comes_from_a_process_of_its_own() -> None:
    assert cuda_memory(20, FakeLibrary)["0000:18:00.0"] == H100_BYTES


@forks
@pytest.mark.parametrize(
    ("load", "reason"),
    [
        (lambda: FakeLibrary(100), "cuInit answered with error 100"),
        (Dying, "died"),
        (lambda: ctypes.CDLL("libtresor-no-such.so"), "cannot be loaded"),
    ],
)
def test_reason_is_said(load: Any, reason: str) -> None:
    with pytest.raises(ReadingError, match=reason):
        cuda_memory(20, load)


@forks
def test_driver_that_hangs_is_left_in_time() -> None:
    started = time.monotonic()

    with pytest.raises(ReadingError, match=r"no answer within 0\.2 s"):
        cuda_memory(0.2, Hanging)
    assert time.monotonic() - started < 10
