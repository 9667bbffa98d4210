"""Recorded outputs of hosts against what a plan counted with: every difference, each on a line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from python_plugins.tests.module_call import call, load
from tresor.gpu.commands import Outcome
from tresor.gpu.compare import differences
from tresor.gpu.gather import TOPOLOGY, XML, gather
from tresor.gpu.planned import PlannedEngine, PlannedGpus, PlanReadingError, read_planned

from .conftest import fixture
from .test_gather import HEALTHY, NOT_LOADED, SHOW, VERSION, answers, bus, cuda, no_cuda

TWO = {"card": "H100 SXM 80GB", "count": 2, "domains": [[0, 1]], "total_gib": 79.18}
SPREAD = {"chat-gpu1": {"gpus": [0, 1], "tensor_parallel_size": 2}}
READY = {
    **HEALTHY,
    XML: Outcome(
        0,
        fixture("handmade-smi-2x-h100-fabric.xml").replace("Insufficient Resources", "Success"),
    ),
}
"""The handmade host after the Fabric Manager took both GPUs in."""


def facts(
    tmp_path: Path,
    outcomes: Mapping[tuple[str, ...], Outcome],
    read_cuda: Any = cuda,
    addresses: tuple[str, ...] = ("0000:18:00.0", "0000:2a:00.0"),
) -> dict[str, Any]:
    for address in addresses:
        bus(tmp_path, address, "0x030200")
    bus(tmp_path, "0000:05:00.0", "0x068000")
    return gather(answers(outcomes), read_cuda, tmp_path)


def planned(**changes: Any) -> PlannedGpus:
    return read_planned({**TWO, **changes}, SPREAD)


def lines(plan: PlannedGpus, found: dict[str, Any], **options: Any) -> list[str]:
    return [str(item) for item in differences(plan, found, **options)]


def test_host_as_planned_has_no_difference(tmp_path: Path) -> None:
    assert lines(planned(), facts(tmp_path, READY)) == []


def test_missing_driver_says_so_and_passes_only_where_a_later_step_installs_it(
    tmp_path: Path,
) -> None:
    found = facts(tmp_path, {SHOW: NOT_LOADED}, no_cuda)

    (line,) = lines(planned(), found)

    assert line.startswith("NVIDIA driver: planned loaded, found none installed; let the role")
    assert lines(planned(), found, driver_may_be_absent=True) == []
    (line,) = lines(planned(count=8), found, driver_may_be_absent=True)
    assert line.startswith("GPUs on the PCI bus: planned 8, found 2;")


def test_driver_that_does_not_answer_never_passes(tmp_path: Path) -> None:
    broken = Outcome(18, "", "exit status 18: " + fixture("smi-driver-mismatch.txt").strip())
    found = facts(tmp_path, {XML: broken, SHOW: NOT_LOADED}, no_cuda)

    (line,) = lines(planned(), found, driver_may_be_absent=True)

    assert "found one that does not answer (exit status 18:" in line
    assert "version mismatch" in line


def test_gpu_that_fell_off_is_named_by_both_counts(tmp_path: Path) -> None:
    found = facts(tmp_path, READY, addresses=("0000:18:00.0", "0000:2a:00.0", "0000:3a:00.0"))

    (line,) = lines(planned(count=3, domains=[[0, 1], [2]]), found)

    assert line.startswith("GPUs that the driver shows: planned 3, found 2; look for XID errors")


def test_other_type_is_named_with_both_names(tmp_path: Path) -> None:
    (line,) = lines(planned(card="H200 SXM 141GB", total_gib=79.0), facts(tmp_path, READY))

    assert line.startswith(
        "type of GPUs 0, 1: planned H200 SXM 141GB, found H100 SXM 80GB (NVIDIA H100 80GB HBM3);"
    )


def test_card_that_nobody_knows_is_no_pass(tmp_path: Path) -> None:
    outcomes = {XML: Outcome(0, fixture("smi-2x-a5000-v13.xml")), SHOW: NOT_LOADED}
    found = facts(tmp_path, outcomes, no_cuda, ("0000:81:00.0", "0000:c1:00.0"))

    (line, *_) = lines(planned(domains=[[0], [1]]), found)

    assert "found NVIDIA RTX A5000, which the catalogue does not know;" in line


def test_less_memory_than_the_plan_counted_with_tells_the_figure_to_write(tmp_path: Path) -> None:
    found = facts(tmp_path, READY, lambda: {**cuda(), "0000:2a:00.0": 83 * 10**9})

    (line,) = lines(planned(), found)

    assert line.startswith("memory of GPU 1: planned 79.18 GiB as a CUDA program sees it, found")
    assert "write gpu_total_gib: 77.30" in line


def test_memory_that_cuda_does_not_tell_is_a_difference(tmp_path: Path) -> None:
    (line,) = lines(planned(), facts(tmp_path, READY, no_cuda))

    assert line.startswith("memory of GPUs 0, 1: planned 79.18 GiB as a CUDA program sees it, ")
    assert "found unknown (libcuda.so.1 cannot be loaded)" in line


def test_gpus_without_the_planned_nvlink_name_the_engine_that_needs_it(tmp_path: Path) -> None:
    pcie = READY[TOPOLOGY].stdout.replace("NV18", "SYS")

    (line,) = lines(planned(), facts(tmp_path, {**READY, TOPOLOGY: Outcome(0, pcie)}))

    assert line.startswith("NVLink among GPUs 0, 1 (used by chat-gpu1): planned every pair joined")
    assert "found joined are [0] and [1]" in line


def test_hybrid_mesh_is_no_domain_of_eight(tmp_path: Path) -> None:
    outcomes = {**READY, TOPOLOGY: Outcome(0, fixture("topo-8x-v100-hybrid-mesh.txt"))}
    plan = PlannedGpus("H100 SXM 80GB", 2, (tuple(range(8)),), 79.18)

    (line,) = lines(plan, facts(tmp_path, outcomes))

    assert line.startswith("NVLink among GPUs 0, 1, 2, 3, 4, 5, 6, 7: planned every pair joined")


def test_topology_that_cannot_be_read_is_a_difference(tmp_path: Path) -> None:
    hung = Outcome(None, "", "no answer within 30 s")

    (line,) = lines(planned(), facts(tmp_path, {**READY, TOPOLOGY: hung}))

    assert line.startswith("NVLink: planned [0, 1], found unknown (no answer within 30 s);")


def test_mig_where_an_engine_is_spread_says_why_it_cannot_be(tmp_path: Path) -> None:
    outcomes = {XML: Outcome(0, fixture("smi-a100-mig-v12.xml")), SHOW: NOT_LOADED}
    plan = PlannedGpus("A100 SXM 80GB", 1, ((0,),), 79.15, (PlannedEngine("big-gpu1", (0, 1), 2),))

    found = lines(plan, facts(tmp_path, outcomes, no_cuda, ("0000:01:00.0",)))

    assert [line for line in found if line.startswith("MIG mode of GPU 0: planned Disabled")]
    assert any("big-gpu1 spreads each layer over GPUs" in line for line in found)
    assert not any(line.startswith("memory") for line in found)


def test_ecc_that_is_off_is_named_for_all_gpus_at_once(tmp_path: Path) -> None:
    outcomes = {XML: Outcome(0, fixture("smi-2x-a5000-v13.xml")), SHOW: NOT_LOADED}

    found = lines(planned(domains=[[0], [1]]), facts(tmp_path, outcomes, no_cuda))

    assert [line for line in found if line.startswith("ECC of GPUs 0, 1: planned Enabled, found D")]


@pytest.mark.parametrize(
    ("changes", "start"),
    [
        (
            {SHOW: Outcome(0, "LoadState=loaded\nActiveState=failed\n")},
            "Fabric Manager: planned active (the host has NVSwitches), found failed;",
        ),
        (
            {SHOW: NOT_LOADED, VERSION: Outcome(None, "", "x", absent=True)},
            "Fabric Manager: planned active (the host has NVSwitches), found not installed;",
        ),
        (
            {VERSION: Outcome(0, "Fabric Manager version is : 580.82.07\n")},
            "version of the Fabric Manager: planned that of the driver, to the digit, "
            "found 580.82.07;",
        ),
        (
            {XML: HEALTHY[XML]},
            "fabric of GPU 1: planned Completed, Success, found Completed, Insufficient Resources;",
        ),
    ],
)
def test_fabric_manager_that_does_not_serve_an_nvswitch_host(
    tmp_path: Path, changes: Mapping[tuple[str, ...], Outcome], start: str
) -> None:
    (line,) = lines(planned(), facts(tmp_path, {**READY, **changes}))

    assert line.startswith(start)


def test_all_differences_come_at_once(tmp_path: Path) -> None:
    outcomes = {XML: Outcome(0, fixture("smi-2x-a5000-v13.xml")), SHOW: NOT_LOADED}
    plan = PlannedGpus("H100 SXM 80GB", 8, (tuple(range(8)),), 79.18)

    found = lines(plan, facts(tmp_path, outcomes, no_cuda))

    things = [line.split(":")[0] for line in found]
    assert things == [
        "GPUs on the PCI bus",
        "GPUs that the driver shows",
        "type of GPUs 0, 1",
        "memory of GPUs 0, 1",
        "NVLink",
        "ECC of GPUs 0, 1",
        "Fabric Manager",
    ]


@pytest.mark.parametrize(
    ("gpus", "said"),
    [
        ({key: TWO[key] for key in TWO if key != "domains"}, "lack 'domains'"),
        ({**TWO, "count": "two"}, "cannot be read"),
    ],
)
def test_plan_of_another_release_is_refused(gpus: dict[str, Any], said: str) -> None:
    with pytest.raises(PlanReadingError, match=said):
        read_planned(gpus, {})


def ready_module(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, outcomes: Any) -> None:
    for address in ("0000:18:00.0", "0000:2a:00.0"):
        bus(tmp_path, address, "0x030200")
    module = load("tresor_gpu_check")
    monkeypatch.setattr(module, "runner", lambda _timeout: answers(outcomes))
    monkeypatch.setattr(module, "cuda_memory", lambda _timeout: cuda())
    monkeypatch.setattr(module, "SYS_DIR", tmp_path)


def test_module_fails_with_every_line_and_reports_the_same_when_asked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ready_module(monkeypatch, tmp_path, HEALTHY)
    options = {"host": "gpu1", "planned": {**TWO, "count": 4}, "sizing": SPREAD}

    failed = call("tresor_gpu_check", **options)
    reported = call("tresor_gpu_check", report=True, **options)

    assert failed["failed"]
    assert failed["msg"].startswith("gpu1 is not the host that was planned; nothing was changed:\n")
    assert len(failed["msg"].splitlines()) == 1 + len(failed["differences"]) == 4
    assert not reported.get("failed")
    (check,) = reported["checks"]
    assert (check["id"], check["ok"]) == ("gpu.plan.gpu1", False)


def test_module_passes_a_host_as_planned(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ready_module(monkeypatch, tmp_path, READY)

    done = call("tresor_gpu_check", check=True, host="gpu1", planned=TWO, sizing=SPREAD)

    assert (done["changed"], done["differences"]) == (False, [])
    assert done["checks"][0]["observed"] == "as planned"


def test_module_refuses_a_plan_it_cannot_read() -> None:
    assert "tresor plan" in call("tresor_gpu_check", host="gpu1", planned={"card": "x"})["msg"]
