"""XIDs of the kernel's log, as drivers write them, and what they ask for."""

from __future__ import annotations

import pytest

from tresor.gpu.xid import Action, Xid, action_of, judge, parse_line, parse_log

# As drivers write them; the forms are from public kernel logs.
MMU = (
    "NVRM: Xid (PCI:0000:00:06): 31, pid=79749, name=exe, Ch 0000000a, intr 00000000. MMU Fault: "
    "ENGINE GRAPHICS GPC2 GPCCLIENT_T1_7 faulted @ 0x2b57_b3000000. Fault is of type FAULT_PDE "
    "ACCESS_TYPE_VIRT_WRITE"
)
LOST = "kernel: NVRM: Xid (PCI:0000:5a:00): 79, pid=1122, GPU has fallen off the bus."
CHANNEL = (
    "kernel: NVRM: Xid (PCI:0000:dc:00): 45, pid=1818990, name=python3, Ch 00000001 caused by "
    "previous Xid 149"
)
RESET = (
    "NVRM: Xid (PCI:0008:01:00): 154, GPU recovery action changed from 0x0 (None) to 0x1 (GPU "
    "Reset Required)"
)
REBOOT = RESET.replace("0x1 (GPU Reset Required)", "0x2 (Node Reboot Required)")
OS_REBOOT = RESET.replace("0x1 (GPU Reset Required)", "0x2 (OS Reboot)")
FLR = RESET.replace("0x1 (GPU Reset Required)", "0x1 (PF FLR)")
DRAIN = RESET.replace("0x1 (GPU Reset Required)", "0x3 (Drain P2P)")
DRAIN_RESET = RESET.replace("0x1 (GPU Reset Required)", "0x4 (Drain and Reset)")
NONE = RESET.replace(
    "0x0 (None) to 0x1 (GPU Reset Required)", "0x1 (GPU Reset Required) to 0x0 (None)"
)


def test_address_code_and_text_are_read() -> None:
    assert parse_line(LOST) == Xid("0000:5a:00", 79, "pid=1122, GPU has fallen off the bus.")
    assert parse_line(MMU) is not None


@pytest.mark.parametrize(
    "line",
    [
        "NVRM: GPU 0000:01:00.0: GPU has fallen off the bus.",
        "NVRM: Xid (PCI:0000:66:00): abc, pid=1",
        "usb 1-1: Xid 79",
        "",
    ],
)
def test_other_lines_are_no_xid(line: str) -> None:
    assert parse_line(line) is None


def test_long_text_is_cut() -> None:
    xid = parse_line("NVRM: Xid (PCI:0000:01:00): 13, " + "x" * 5000)

    assert xid is not None
    assert len(xid.text) == 300


@pytest.mark.parametrize(
    ("line", "action"),
    [
        (MMU, Action.RESTART_APP),
        (LOST, Action.REBOOT_HOST),
        (CHANNEL, Action.RESTART_FABRIC),
        (RESET, Action.RESET_GPU),
        (REBOOT, Action.REBOOT_HOST),
        (OS_REBOOT, Action.REBOOT_HOST),
        (FLR, Action.RESET_GPU),
        (DRAIN, Action.WORKFLOW),
        (DRAIN_RESET, Action.RESET_GPU),
        (NONE, Action.IGNORE),
        (LOST.replace("79", "48"), Action.WORKFLOW),
        (LOST.replace("79", "119"), Action.RESET_GPU),
        (LOST.replace("79", "63"), Action.IGNORE),
        (LOST.replace("79", "999"), None),
        (RESET.replace("GPU Reset Required", "Something New"), None),
    ],
)
def test_bucket_of_one_xid(line: str, action: Action | None) -> None:
    xid = parse_line(line)

    assert xid is not None
    assert action_of(xid) == action


def test_recovery_action_of_the_driver_counts_more_than_the_table() -> None:
    (verdict,) = judge(parse_log("\n".join([RESET.replace("154", "31"), RESET, REBOOT])))

    assert verdict.action == Action.REBOOT_HOST
    assert [xid.code for xid in verdict.because] == [154]


def test_recovery_that_was_withdrawn_ends_the_matter() -> None:
    (verdict,) = judge(parse_log("\n".join([RESET, NONE])))

    assert verdict.action == Action.IGNORE


def test_ended_channels_follow_the_xid_that_ended_them() -> None:
    cause = CHANNEL.replace("45", "149")

    (alone,) = judge(parse_log(CHANNEL))
    (with_cause,) = judge(parse_log("\n".join([cause, CHANNEL])))

    assert alone.action == Action.RESTART_FABRIC
    assert with_cause.action == Action.WORKFLOW


def test_each_gpu_has_its_own_verdict_and_unknown_codes_are_named() -> None:
    first, second = judge(parse_log("\n".join([LOST, MMU, MMU.replace("31,", "999,")])))

    assert (first.pci, first.action, first.unknown) == ("0000:00:06", Action.RESTART_APP, (999,))
    assert (second.pci, second.action) == ("0000:5a:00", Action.REBOOT_HOST)


def test_only_errors_that_applications_cause_leave_engines_running() -> None:
    assert [action.word for action in Action if not action.drains] == ["ignore", "restart_app"]
