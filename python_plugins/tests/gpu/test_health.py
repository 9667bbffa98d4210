"""Healthy and broken machines, from recorded outputs: what is found, and what could not be read."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from python_plugins.tests.module_call import call, load
from tresor.gpu.commands import Outcome
from tresor.gpu.diag import parse_all_reduce, parse_diag
from tresor.gpu.examine import (
    FABRIC_JOURNAL,
    FABRIC_LOG,
    KERNEL_LOG,
    MODULE,
    NVLINK_ERRORS,
    bus_command,
    diag_command,
    examine,
    needs,
    since_boot,
)
from tresor.gpu.gather import NVLINKS, XML
from tresor.gpu.health import Finding, judge_health
from tresor.gpu.values import ReadingError

from .conftest import fixture
from .test_compare import READY, facts
from .test_gather import HEALTHY, SHOW, VERSION, answers, bus, cuda

H100 = "GPU {gpu}: NVIDIA H100 80GB HBM3 (UUID: GPU-00000000-0000-0000-0000-00000000000{gpu})\n"
QUIET = "".join(
    H100.format(gpu=gpu)
    + "".join(
        f"\t Link {link}: Replay Errors: 0\n\t Link {link}: Recovery Errors: 0\n"
        f"\t Link {link}: CRC Errors: 0\n"
        for link in range(18)
    )
    for gpu in (0, 1)
)
SOUND = fixture("handmade-smi-2x-h100-fabric.xml").replace("Insufficient Resources", "Success")
SOUND = SOUND.replace("secded>3<", "secded>0<").replace("_pending>Yes<", "_pending>No<")
GOOD: dict[tuple[str, ...], Outcome] = {
    **READY,
    XML: Outcome(0, SOUND),
    NVLINKS: Outcome(0, fixture("nvlink-2-of-8x-h100.txt")),
    MODULE: Outcome(0, "580.95.05\n"),
    KERNEL_LOG: Outcome(0, "usb 1-1: new device\n"),
    NVLINK_ERRORS: Outcome(0, QUIET),
    FABRIC_LOG: Outcome(
        0, "[Feb 25 2025 13:59:45] [INFO] [tid 1808] multicast group 0 is freed.\n"
    ),
    FABRIC_JOURNAL: Outcome(0, ""),
}
REDUCED = (
    "#       size         count      type   redop    root     time   algbw   busbw #wrong\n"
    "  8388608       2097152     float     sum      -1   556.83   15.06   15.06       0   559.35 "
    "  15.00   15.00       0\n"
    " 10737418240    2684354560     float     sum      -1    90330  118.87  222.88      0    91945"
    "  116.78  218.96      0\n"
    "# Out of bounds values : 0 OK\n# Avg bus bandwidth    : 220.921\n"
)


def diag(status: str = "Pass", **result: Any) -> str:
    """Return a diagnosis in the form of DCGM 4.2 and later, with one result that may be changed."""
    results = [
        {"entity_group": "GPU", "entity_id": 0, "status": "Pass"},
        {"entity_group": "GPU", "entity_id": 1, "status": status, **result},
    ]
    test = {"name": "software", "results": results, "test_summary": {"status": status}}
    category = {"category": "Deployment", "tests": [test]}
    return json.dumps({"DCGM Diagnostic": {"test_categories": [category]}})


def found(
    tmp_path: Path, changes: Mapping[tuple[str, ...], Outcome] | None = None, **options: Any
) -> dict[str, Finding]:
    outcomes = {**GOOD, **(changes or {})}
    seen = facts(tmp_path, outcomes)
    count, fabric, nvlink = needs(seen)
    keys: dict[str, Any] = {"diag_level": 0, "bus": False, "usual_bus_gb_s": None, **options}
    run = answers(outcomes)
    read = examine(run, run, gpus=count, fabric=fabric, nvlink=nvlink, **keys)
    return {finding.id: finding for finding in judge_health(seen, read)}


def bad(findings: Mapping[str, Finding]) -> dict[str, str]:
    return {name: finding.observed for name, finding in findings.items() if not finding.ok}


def test_healthy_host_has_good_findings_alone(tmp_path: Path) -> None:
    findings = found(tmp_path)

    assert bad(findings) == {}
    assert list(findings) == [
        "driver",
        "present",
        "module",
        "fabric_manager",
        "fabric",
        "fabric_log",
        "memory",
        "recovery",
        "xid",
        "clocks",
        "pcie",
        "persistence",
        "nvlink",
        "nvlink_errors",
    ]


def test_host_of_the_fixture_has_errors_and_a_gpu_outside_the_fabric(tmp_path: Path) -> None:
    broken = bad(found(tmp_path, {XML: HEALTHY[XML]}))

    assert broken["fabric"] == "GPU 1: Completed, Insufficient Resources"
    assert broken["memory"].startswith("GPU 1: 3 uncorrected errors")


@pytest.mark.parametrize(
    ("changes", "name", "observed"),
    [
        ({MODULE: Outcome(0, "580.82.07\n")}, "module", "loaded 580.95.05, on disk 580.82.07"),
        (
            {VERSION: Outcome(0, "Fabric Manager version is : 580.82.07\n")},
            "fabric_manager",
            "active, version 580.82.07",
        ),
        (
            {SHOW: Outcome(0, "LoadState=loaded\nActiveState=failed\n")},
            "fabric_manager",
            "failed, version 580.95.05",
        ),
        (
            {
                FABRIC_LOG: Outcome(
                    0,
                    "[Feb 27 2025 15:10:02] [ERROR] [tid 12727] detected NVSwitch fatal error "
                    "10003 on fid 0\n",
                )
            },
            "fabric_log",
            "[Feb 27 2025 15:10:02] [ERROR] [tid 12727] detected NVSwitch fatal error 10003 on fid "
            "0",
        ),
        (
            {KERNEL_LOG: Outcome(0, "NVRM: Xid (PCI:0000:18:00): 119, pid=1, Timeout after 6s\n")},
            "xid",
            "0000:18:00: XID 119 asks for reset_gpu",
        ),
        (
            {KERNEL_LOG: Outcome(0, "NVRM: Xid (PCI:0000:18:00): 777, new\n")},
            "xid",
            "0000:18:00: XID 777 is in no bucket",
        ),
        (
            {NVLINK_ERRORS: Outcome(0, QUIET.replace("7: CRC Errors: 0", "7: CRC Errors: 4", 1))},
            "nvlink_errors",
            "GPU 0: crc 4",
        ),
        (
            {
                NVLINKS: Outcome(
                    0, fixture("nvlink-2-of-8x-h100.txt").replace("26.562 GB/s", "<inactive>", 1)
                )
            },
            "nvlink",
            "GPU 0: 17 of 18",
        ),
    ],
)
def test_one_broken_thing_is_the_one_bad_finding(
    tmp_path: Path, changes: Mapping[tuple[str, ...], Outcome], name: str, observed: str
) -> None:
    assert bad(found(tmp_path, changes)) == {name: observed}


def with_xml(old: str, new: str) -> Mapping[tuple[str, ...], Outcome]:
    assert old in SOUND
    return {XML: Outcome(0, SOUND.replace(old, new, 1))}


@pytest.mark.parametrize(
    ("extra", "name", "observed"),
    [
        (
            "<clocks_event_reasons><clocks_event_reason_hw_thermal_slowdown>Active"
            "</clocks_event_reason_hw_thermal_slowdown></clocks_event_reasons>",
            "clocks",
            "GPU 0: hw_thermal_slowdown",
        ),
        (
            "<clocks_throttle_reasons><clocks_throttle_reason_hw_slowdown>Active"
            "</clocks_throttle_reason_hw_slowdown></clocks_throttle_reasons>",
            "clocks",
            "GPU 0: hw_slowdown",
        ),
        (
            "<gpu_recovery_action>Drain and Reset</gpu_recovery_action>",
            "recovery",
            "GPU 0: Drain and Reset",
        ),
    ],
)
def test_what_the_driver_says_of_one_gpu(
    tmp_path: Path, extra: str, name: str, observed: str
) -> None:
    changes = with_xml("<mig_devices>", f"{extra}<mig_devices>")

    assert bad(found(tmp_path, changes)) == {name: observed}


def test_idle_clocks_and_a_power_limit_are_no_fault(tmp_path: Path) -> None:
    changes = with_xml(
        "<mig_devices>",
        "<clocks_event_reasons><clocks_event_reason_gpu_idle>Active</clocks_event_reason_gpu_idle>"
        "<clocks_event_reason_sw_power_cap>Active</clocks_event_reason_sw_power_cap>"
        "</clocks_event_reasons><gpu_recovery_action>None</gpu_recovery_action><mig_devices>",
    )

    assert bad(found(tmp_path, changes)) == {}


def test_narrow_link_of_a_real_host_is_named(tmp_path: Path) -> None:
    changes = with_xml(
        "<pci_bus_id>00000000:18:00.0</pci_bus_id>",
        "<pci_bus_id>00000000:18:00.0</pci_bus_id><pci_gpu_link_info><link_widths>"
        "<max_link_width>16x</max_link_width><current_link_width>8x</current_link_width>"
        "</link_widths></pci_gpu_link_info>",
    )

    assert bad(found(tmp_path, changes)) == {"pcie": "GPU 0: x8 of x16"}


@pytest.mark.parametrize(
    ("command", "name"),
    [(MODULE, "module"), (KERNEL_LOG, "xid"), (NVLINK_ERRORS, "nvlink_errors")],
)
def test_what_cannot_be_read_is_a_bad_finding(
    tmp_path: Path, command: tuple[str, ...], name: str
) -> None:
    hung = Outcome(None, "", "no answer within 30 s")

    assert bad(found(tmp_path, {command: hung})) == {
        name: "could not be read: no answer within 30 s"
    }


def test_log_of_the_fabric_manager_may_be_in_the_journal_alone(tmp_path: Path) -> None:
    none = Outcome(1, "", "exit status 1: no such file")

    assert bad(found(tmp_path, {FABRIC_LOG: none})) == {}
    assert "fabric_log" in bad(found(tmp_path / "b", {FABRIC_LOG: none, FABRIC_JOURNAL: none}))


def test_what_the_fabric_manager_wrote_before_the_boot_is_history() -> None:
    log = "[Feb 25 2025 13:59:45] old\n[Feb 27 2025 15:10:02] new\nof the same\n"

    assert since_boot(log, dt.datetime(2025, 2, 26)) == (
        "[Feb 27 2025 15:10:02] new\nof the same\n"
    )
    assert since_boot(log, None) == log


def test_host_without_a_driver_has_one_finding(tmp_path: Path) -> None:
    assert list(found(tmp_path, {XML: Outcome(None, "", "absent", absent=True)})) == ["driver"]


def test_diagnosis_is_a_gate_when_asked_for(tmp_path: Path) -> None:
    command = diag_command(1)
    warning = {"warnings": [{"warning": "Persistence mode is off", "error_id": 29}]}

    passed = found(tmp_path / "a", {command: Outcome(0, diag())}, diag_level=1)
    failed = found(
        tmp_path / "b",
        {command: Outcome(226, diag("Fail", **warning), "exit status 226")},
        diag_level=1,
    )
    absent = found(tmp_path / "c", {}, diag_level=1)

    assert passed["diag"].observed == "2 results"
    assert failed["diag"].observed == "Deployment/software on GPU 1: Persistence mode is off"
    assert absent["diag"].observed == "could not be read: not installed"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Error: unable to connect to host engine", "no diagnosis"),
        ('{"DCGM Diagnostic": {"test_categories": []}}', "no result"),
        ('{"DCGM Diagnostic": {"runtime_error": "boom"}}', "broke off: boom"),
        ("{", "no JSON"),
    ],
)
def test_output_that_is_no_diagnosis_does_not_pass(text: str, said: str) -> None:
    with pytest.raises(ReadingError, match=said):
        parse_diag(text)


def test_result_that_did_not_run_has_failed() -> None:
    assert [item.entity for item in parse_diag(diag("NotRun"))[1]] == ["GPU 1"]
    assert parse_diag(diag("Skip"))[1] == []


@pytest.mark.parametrize(
    ("usual", "ok"), [(230.0, True), (278.0, True), (279.0, False), (None, False)]
)
def test_all_reduce_is_held_against_what_is_usual(
    tmp_path: Path, usual: float | None, ok: bool
) -> None:
    changes = {bus_command(2): Outcome(0, REDUCED)}

    finding = found(tmp_path, changes, bus=True, usual_bus_gb_s=usual)["bus"]

    assert finding.ok is ok
    assert finding.observed.startswith("222.9 GB/s at 10737418240 bytes")


def test_all_reduce_that_broke_off_is_none() -> None:
    with pytest.raises(ReadingError, match="did not come to its end"):
        parse_all_reduce(REDUCED.split("# Out of bounds", maxsplit=1)[0])


def test_wrong_sums_are_a_failure_whatever_the_speed(tmp_path: Path) -> None:
    wrong = REDUCED.replace("222.88      0", "222.88      7")

    finding = found(tmp_path, {bus_command(2): Outcome(0, wrong)}, bus=True, usual_bus_gb_s=1.0)

    assert "7 wrong values" in bad(finding)["bus"]


def use(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, outcomes: Any) -> None:
    for address in ("0000:18:00.0", "0000:2a:00.0"):
        bus(tmp_path, address, "0x030200")
    module = load("tresor_gpu_health")
    monkeypatch.setattr(module, "runner", lambda _timeout: answers(outcomes))
    monkeypatch.setattr(module, "cuda_memory", lambda _timeout: cuda())
    monkeypatch.setattr(module, "SYS_DIR", tmp_path)


def test_module_passes_a_healthy_host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use(monkeypatch, tmp_path, {**GOOD, diag_command(1): Outcome(0, diag())})

    done = call("tresor_gpu_health", check=True, host="gpu1", diag_level=1)

    assert (done["changed"], done["healthy"]) == (False, True)
    assert "gpu.health.gpu1.diag" in [check["id"] for check in done["checks"]]


def test_module_fails_with_every_bad_finding(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    use(monkeypatch, tmp_path, {**GOOD, XML: HEALTHY[XML]})

    failed = call("tresor_gpu_health", host="gpu1")
    reported = call("tresor_gpu_health", host="gpu1", report=True)

    assert failed["msg"].startswith("The GPUs of gpu1 are not healthy:\n- ")
    assert len(failed["msg"].splitlines()) == 3
    assert (reported["healthy"], reported.get("failed", False)) == (False, False)


def test_module_refuses_absurd_times() -> None:
    assert "up to 7200" in call("tresor_gpu_health", host="gpu1", long_timeout=1e9)["msg"]
