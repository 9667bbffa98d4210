"""Read `nvidia-smi -q -x`. Element names of the DTD versions 11, 12 and 13 are understood."""

from __future__ import annotations

from typing import Final

from .values import (
    Ecc,
    Fabric,
    Gpu,
    MigDevice,
    PcieLink,
    ReadingError,
    SmiReport,
    pci_address,
)
from .xml_tree import Node, parse_xml

_ROOT: Final = "nvidia_smi_log"
_UNCORRECTED: Final = (
    "sram_uncorrectable",
    "sram_uncorrectable_parity",
    "sram_uncorrectable_secded",
    "dram_uncorrectable",
)
"""One counter for the SRAM up to DTD version 12, two from 13 on."""
_REASONS: Final = (
    ("clocks_event_reasons", "clocks_event_reason_"),
    ("clocks_throttle_reasons", "clocks_throttle_reason_"),
)


def parse_smi_xml(text: str) -> SmiReport:
    """Return the report; raises ReadingError if the text is not one of nvidia-smi."""
    root = parse_xml(text, _ROOT)
    return SmiReport(
        driver_version=root.value("driver_version"),
        cuda_version=root.value("cuda_version"),
        gpus=tuple(_gpu(index, node) for index, node in enumerate(root.all("gpu"))),
    )


def _gpu(index: int, node: Node) -> Gpu:
    name, uuid = node.value("product_name"), node.value("uuid")
    address = node.value("pci/pci_bus_id") or node.attributes.get("id", "")
    if name is None or uuid is None or not address:
        raise ReadingError(f"GPU {index} lacks product_name, uuid or PCI address")
    return Gpu(
        index=index,
        name=name,
        uuid=uuid,
        pci_address=pci_address(address),
        memory_total_mib=_whole(node, "fb_memory_usage/total"),
        memory_reserved_mib=_whole(node, "fb_memory_usage/reserved"),
        memory_used_mib=_whole(node, "fb_memory_usage/used"),
        memory_free_mib=_whole(node, "fb_memory_usage/free"),
        power_limit_w=_power(node, "current_power_limit", "enforced_power_limit", "power_limit"),
        power_limit_default_w=_power(node, "default_power_limit"),
        power_limit_max_w=_power(node, "max_power_limit"),
        persistence=_is(node, "persistence_mode", "Enabled"),
        ecc=_ecc(node),
        mig_mode=node.value("mig_mode/current_mig"),
        mig_pending=node.value("mig_mode/pending_mig"),
        mig_devices=tuple(_mig_devices(node)),
        fabric=Fabric(
            state=node.value("fabric/state"),
            status=node.value("fabric/status"),
            clique=node.value("fabric/cliqueId"),
            cluster_uuid=node.value("fabric/clusterUuid"),
        ),
        pcie=_pcie(node),
        slowed_by=tuple(_slowed_by(node)),
        recovery_action=node.value("gpu_recovery_action"),
    )


def _pcie(node: Node) -> PcieLink:
    link = "pci/pci_gpu_link_info"
    return PcieLink(
        width=_lanes(node, f"{link}/link_widths/current_link_width"),
        width_max=_lanes(node, f"{link}/link_widths/max_link_width"),
        generation=_whole(node, f"{link}/pcie_gen/current_link_gen"),
        generation_max=_whole(node, f"{link}/pcie_gen/max_link_gen"),
    )


def _lanes(node: Node, path: str) -> int | None:
    """Return the lanes of a width such as `16x`."""
    text = node.value(path)
    number = text.rstrip("xX") if text else ""
    return int(number) if number.isdigit() else None


def _slowed_by(node: Node) -> list[str]:
    """Return the active reasons; older drivers call them throttle reasons."""
    return [
        child.name.removeprefix(prefix)
        for group, prefix in _REASONS
        if (reasons := node.find(group)) is not None
        for child in reasons.children
        if child.name.startswith(prefix) and child.text.strip() == "Active"
    ]


def _ecc(node: Node) -> Ecc:
    return Ecc(
        mode=node.value("ecc_mode/current_ecc"),
        pending=node.value("ecc_mode/pending_ecc"),
        volatile_uncorrected=_uncorrected(node, "volatile"),
        aggregate_uncorrected=_uncorrected(node, "aggregate"),
        remap_pending=_is(node, "remapped_rows/remapped_row_pending", "Yes"),
        remap_failed=_is(node, "remapped_rows/remapped_row_failure", "Yes"),
    )


def _uncorrected(node: Node, span: str) -> int | None:
    """Return the sum of the counters that the board keeps, or None if it keeps none."""
    counts = [_whole(node, f"ecc_errors/{span}/{name}") for name in _UNCORRECTED]
    kept = [count for count in counts if count is not None]
    return sum(kept) if kept else None


def _mig_devices(node: Node) -> list[MigDevice]:
    devices = node.find("mig_devices")
    return [
        MigDevice(
            index=_whole(device, "index"),
            gpu_instance=_whole(device, "gpu_instance_id"),
            compute_instance=_whole(device, "compute_instance_id"),
            memory_total_mib=_whole(device, "fb_memory_usage/total"),
        )
        for device in (devices.all("mig_device") if devices else ())
    ]


def _power(node: Node, *names: str) -> float | None:
    """Power readings stand in `gpu_power_readings` since DTD version 12."""
    paths = [
        f"{group}/{name}" for name in names for group in ("gpu_power_readings", "power_readings")
    ]
    return _number(node.value(*paths))


def _whole(node: Node, path: str) -> int | None:
    number = _number(node.value(path))
    return round(number) if number is not None else None


def _number(text: str | None) -> float | None:
    """Return the number before a unit, as in `81559 MiB`."""
    try:
        return float(text.split()[0]) if text else None
    except ValueError:
        return None


def _is(node: Node, path: str, wanted: str) -> bool | None:
    text = node.value(path)
    return None if text is None else text == wanted
