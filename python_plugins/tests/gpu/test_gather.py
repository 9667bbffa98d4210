"""One answer about a host, whatever is missing; and the module that hands it over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from python_plugins.tests.module_call import call, load
from tresor.gpu.commands import Outcome, Runner
from tresor.gpu.gather import COMPUTE, NVLINKS, TOPOLOGY, XML, gather
from tresor.gpu.values import ReadingError

from .conftest import fixture

SHOW = ("systemctl", "show", "--property=LoadState,ActiveState", "nvidia-fabricmanager.service")
VERSION = ("nv-fabricmanager", "--version")
ABSENT = Outcome(None, "", "not installed", absent=True)
NOT_LOADED = Outcome(0, "LoadState=not-found\nActiveState=inactive\n")
HEALTHY = {
    XML: Outcome(0, fixture("handmade-smi-2x-h100-fabric.xml")),
    TOPOLOGY: Outcome(
        0,
        "\tGPU0\tGPU1\tCPU Affinity\tNUMA Affinity\n"
        "GPU0\t X \tNV18\t0-55\t0\nGPU1\tNV18\t X \t0-55\t0\n",
    ),
    NVLINKS: Outcome(0, fixture("nvlink-2-of-8x-h100.txt")),
    COMPUTE: Outcome(0, "00000000:18:00.0, 9.0\n00000000:2A:00.0, 9.0\n"),
    SHOW: Outcome(0, "LoadState=loaded\nActiveState=active\n"),
    VERSION: Outcome(0, "Fabric Manager version is : 580.95.05\n"),
}


def answers(outcomes: Mapping[tuple[str, ...], Outcome]) -> Runner:
    def run(command: Sequence[str]) -> Outcome:
        return outcomes.get(tuple(command), ABSENT)

    return run


def cuda() -> Mapping[str, int]:
    return {"0000:18:00.0": 85017624576, "0000:2a:00.0": 85017624576}


def no_cuda() -> Mapping[str, int]:
    raise ReadingError("libcuda.so.1 cannot be loaded")


def bus(
    tmp_path: Path, address: str, kind: str, *, vendor: str = "0x10de", numa: str = "1"
) -> None:
    device = tmp_path / "bus/pci/devices" / address
    device.mkdir(parents=True)
    for name, value in {
        "vendor": vendor,
        "class": kind,
        "device": "0x2330",
        "numa_node": numa,
    }.items():
        (device / name).write_text(f"{value}\n")


def test_host_without_a_driver_says_so_and_lists_its_gpus(tmp_path: Path) -> None:
    bus(tmp_path, "0000:18:00.0", "0x030200")
    bus(tmp_path, "0000:19:00.0", "0x020000", vendor="0x15b3")

    facts = gather(answers({SHOW: NOT_LOADED}), no_cuda, tmp_path)

    assert facts["driver"] == "absent"
    assert facts["pci_gpus"] == [{"address": "0000:18:00.0", "device_id": "0x2330"}]
    assert (facts["gpus"], facts["nvlink_domains"], facts["faults"]) == ([], [], [])


def test_driver_that_does_not_answer_is_unusable(tmp_path: Path) -> None:
    broken = Outcome(
        18, "", "exit status 18: " + " ".join(fixture("smi-driver-mismatch.txt").split("\n"))
    )

    facts = gather(answers({XML: broken, SHOW: NOT_LOADED}), no_cuda, tmp_path)

    assert facts["driver"] == "unusable"
    assert facts["faults"][0]["source"] == "nvidia-smi -q -x"
    assert "version mismatch" in facts["faults"][0]["fault"]


def test_module_without_the_program_is_unusable_too(tmp_path: Path) -> None:
    version = tmp_path / "module/nvidia/version"
    version.parent.mkdir(parents=True)
    version.write_text("580.95.05\n")

    facts = gather(answers({}), no_cuda, tmp_path)

    assert (facts["driver"], facts["driver_version"]) == ("unusable", "580.95.05")


def test_whole_host(tmp_path: Path) -> None:
    bus(tmp_path, "0000:18:00.0", "0x030200")
    bus(tmp_path, "0000:05:00.0", "0x068000")

    facts = gather(answers(HEALTHY), cuda, tmp_path)
    first = facts["gpus"][0]

    assert (facts["driver"], facts["driver_version"]) == ("loaded", "580.95.05")
    assert first["torch_total_gib"] == pytest.approx(79.18, abs=0.01)
    assert first["memory_total_mib"] == 81559
    assert (first["compute_capability"], first["numa_node"]) == ("9.0", 0)
    assert first["nvlinks"] == {"active": 18, "total": 18}
    assert facts["nvlink_domains"] == [[0, 1]]
    assert facts["fabric_manager"] == {
        "needed": True,
        "installed": True,
        "active": "active",
        "version": "580.95.05",
        "matches_driver": True,
    }
    assert facts["faults"] == []


def test_fabric_manager_of_another_version_does_not_match(tmp_path: Path) -> None:
    other = Outcome(0, "Fabric Manager version is : 580.82.07\n")

    facts = gather(answers({**HEALTHY, VERSION: other}), cuda, tmp_path)

    assert facts["fabric_manager"]["matches_driver"] is False


@pytest.mark.parametrize(
    ("command", "source"),
    [(TOPOLOGY, "nvidia-smi topo -m"), (NVLINKS, "nvidia-smi nvlink -s"), (COMPUTE, "--query-gpu")],
)
def test_one_failing_command_is_named_and_the_rest_stands(
    tmp_path: Path, command: tuple[str, ...], source: str
) -> None:
    hung = Outcome(None, "", "no answer within 30 s")

    facts = gather(answers({**HEALTHY, command: hung}), cuda, tmp_path)

    (fault,) = facts["faults"]
    assert source in fault["source"]
    assert fault["fault"] == "no answer within 30 s"
    assert len(facts["gpus"]) == 2


def test_gpu_that_cuda_does_not_show_is_named(tmp_path: Path) -> None:
    facts = gather(answers(HEALTHY), lambda: {"0000:18:00.0": 85017624576}, tmp_path)

    assert facts["faults"] == [
        {"source": "CUDA driver library", "fault": "does not show GPU 1 (0000:2a:00.0)"}
    ]
    assert facts["gpus"][1]["torch_total_gib"] is None


def test_whole_memory_of_a_gpu_with_mig_is_not_what_a_program_sees(tmp_path: Path) -> None:
    outcomes = {**HEALTHY, XML: Outcome(0, fixture("smi-a100-mig-v12.xml"))}

    facts = gather(answers(outcomes), lambda: {"0000:01:00.0": 20937965568}, tmp_path)

    assert facts["gpus"][0]["torch_total_gib"] is None
    assert len(facts["gpus"][0]["mig_devices"]) == 2


def test_module_reads_and_never_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    def outcome(_timeout: float) -> Any:
        return answers(HEALTHY)

    module = load("tresor_gpu_facts")
    monkeypatch.setattr(module, "runner", outcome)
    monkeypatch.setattr(module, "cuda_memory", lambda _timeout: cuda())

    checked, done = call("tresor_gpu_facts", check=True), call("tresor_gpu_facts")

    assert (checked["changed"], done["changed"]) == (False, False)
    assert checked == done
    assert [gpu["index"] for gpu in done["gpus"]] == [0, 1]


def test_timeout_out_of_range_is_refused() -> None:
    result = call("tresor_gpu_facts", timeout=0)

    assert result["failed"]
    assert "seconds above 0" in result["msg"]
