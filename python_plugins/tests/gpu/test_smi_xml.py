"""The report of nvidia-smi is read as it is, and XML that could do harm is refused."""

from __future__ import annotations

import pytest

from tresor.gpu.smi_xml import parse_smi_xml
from tresor.gpu.values import Fabric, ReadingError
from tresor.gpu.xml_tree import DEPTH_LIMIT, SIZE_LIMIT

from .conftest import fixture


def test_gpu_with_mig_is_read() -> None:
    report = parse_smi_xml(fixture("smi-a100-mig-v12.xml"))
    (gpu,) = report.gpus

    assert (report.driver_version, report.cuda_version) == ("535.54.03", "12.2")
    assert (gpu.name, gpu.pci_address) == ("NVIDIA A100-SXM4-80GB", "0000:01:00.0")
    assert (gpu.memory_total_mib, gpu.memory_reserved_mib) == (81920, 869)
    assert (gpu.power_limit_w, gpu.persistence) == (500.0, False)
    assert (gpu.mig_mode, [mig.memory_total_mib for mig in gpu.mig_devices]) == (
        "Enabled",
        [19968, 19968],
    )
    assert (gpu.ecc.mode, gpu.ecc.volatile_uncorrected, gpu.ecc.aggregate_uncorrected) == (
        "Enabled",
        0,
        0,
    )
    assert gpu.ecc.remap_pending is None
    assert gpu.fabric == Fabric(None, None, None, None)


def test_newer_layout_is_read_and_what_a_board_does_not_tell_is_none() -> None:
    report = parse_smi_xml(fixture("smi-2x-a5000-v13.xml"))

    assert [gpu.pci_address for gpu in report.gpus] == ["0000:81:00.0", "0000:c1:00.0"]
    assert [gpu.memory_used_mib for gpu in report.gpus] == [22437, 17253]
    first = report.gpus[0]
    assert (first.mig_mode, first.mig_devices) == (None, ())
    assert (first.ecc.mode, first.ecc.volatile_uncorrected) == ("Disabled", None)
    assert (first.ecc.remap_pending, first.ecc.remap_failed) == (False, False)
    assert (first.power_limit_w, first.persistence) == (230.0, True)


def test_gpu_that_the_fabric_refused_is_not_ready() -> None:
    one, other = parse_smi_xml(fixture("handmade-smi-2x-h100-fabric.xml")).gpus

    assert (one.fabric.is_ready, other.fabric.is_ready) == (True, False)
    assert other.fabric.status == "Insufficient Resources"
    assert (other.ecc.volatile_uncorrected, other.ecc.aggregate_uncorrected) == (3, 6)
    assert (one.ecc.remap_pending, other.ecc.remap_pending) == (False, True)


BOMB = (
    '<!DOCTYPE nvidia_smi_log [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;&a;">]>'
    "<nvidia_smi_log>&b;</nvidia_smi_log>"
)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (BOMB, "declares"),
        (
            '<!DOCTYPE nvidia_smi_log [<!ENTITY a SYSTEM "file:///etc/passwd">]>'
            "<nvidia_smi_log>&a;</nvidia_smi_log>",
            "declares",
        ),
        ('<!DOCTYPE other SYSTEM "x"><other/>', "not that of the driver"),
        ("<other/>", "expected the element nvidia_smi_log, saw other"),
        ("Failed to initialize NVML: Driver/library version mismatch", "cannot be parsed"),
        ("", "cannot be parsed"),
        ("<nvidia_smi_log><gpu/></nvidia_smi_log>", "GPU 0 lacks product_name"),
        ("<nvidia_smi_log>" + "<a>" * (DEPTH_LIMIT + 1), "nested deeper"),
        ("x" * (SIZE_LIMIT + 1), "more than"),
    ],
    ids=["bomb", "file", "doctype", "root", "message", "empty", "half", "deep", "large"],
)
def test_text_that_is_no_report_is_refused(text: str, reason: str) -> None:
    with pytest.raises(ReadingError, match=reason):
        parse_smi_xml(text)
