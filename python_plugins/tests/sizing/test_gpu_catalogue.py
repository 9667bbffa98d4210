"""The catalogue of GPUs: names are found, unknown ones are refused, figures are plausible."""

from __future__ import annotations

import pytest

from tresor.sizing.errors import SizingError
from tresor.sizing.gpu import find, names
from tresor.sizing.gpu.lookup import catalogue


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("H100 SXM 80GB", "H100 SXM 80GB"),
        ("h100", "H100 SXM 80GB"),
        ("NVIDIA H100 80GB HBM3", "H100 SXM 80GB"),
        ("NVIDIA H100 PCIe", "H100 PCIe 80GB"),
        ("H100 NVL", "H100 NVL 94GB"),
        ("NVIDIA A100-SXM4-80GB", "A100 SXM 80GB"),
        ("NVIDIA A100-SXM4-40GB", "A100 SXM 40GB"),
        ("A100 SXM 40GB (Polaris)", "A100 SXM 40GB"),
        ("A100 40GB (inferred from budget)", "A100 SXM 40GB"),
        ("NVIDIA A100 80GB PCIe", "A100 PCIe 80GB"),
        ("8x H200 (per vLLM recipe)", "H200 SXM 141GB"),
        ("NVIDIA H200-NVL-141GB", "H200 NVL 141GB"),
        ("NVIDIA B200-SXM-180GB", "B200 SXM 180GB"),
        ("B300", "B300 SXM 288GB"),
        ("NVIDIA B300 SXM6 AC", "B300 SXM 288GB"),
        ("GH200 (96GB HBM3)", "GH200 96GB"),
        ("NVIDIA GH200 480GB", "GH200 96GB"),
        ("L40S 48GB", "L40S 48GB"),
        ("NVIDIA L4", "L4 24GB"),
        ("A10", "A10 24GB"),
        ("NVIDIA RTX 6000 Ada Generation", "RTX 6000 Ada 48GB"),
        ("RTX PRO 6000 Blackwell SE 96GB", "RTX PRO 6000 Blackwell Server Edition 96GB"),
        (
            "NVIDIA RTX PRO 6000 Blackwell Server Edition",
            "RTX PRO 6000 Blackwell Server Edition 96GB",
        ),
        (
            "NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition",
            "RTX PRO 6000 Blackwell Max-Q 96GB",
        ),
        ("NVIDIA GeForce RTX 4090", "RTX 4090 24GB"),
        ("RTX 5090 32GB", "RTX 5090 32GB"),
        ("RTX 5090 Laptop 24GB", "RTX 5090 Laptop 24GB"),
        ("AMD Instinct MI300X", "MI300X 192GB"),
        ("NVIDIA GB10", "GB10 128GB"),
    ],
)
def test_names_from_tables_and_tools_are_understood(name: str, found: str) -> None:
    assert find(name).name == found


def test_every_card_is_found_by_its_own_name() -> None:
    assert [find(name).name for name in names()] == list(names())
    assert len(set(names())) == len(names())


def test_unknown_card_is_refused_with_near_names() -> None:
    with pytest.raises(SizingError, match=r"'H1000 SXM' .* did you mean .*H100 SXM 80GB"):
        find("H1000 SXM")


@pytest.mark.parametrize("name", ["A100", "NVIDIA A100 SXM"])
def test_name_that_fits_cards_with_other_memory_is_refused(name: str) -> None:
    with pytest.raises(SizingError, match=r"A100 SXM 40GB.*A100 SXM 80GB"):
        find(name)


@pytest.mark.parametrize("name", ["", "   ", "x" * 1000, None, 3, "24GB consumer card", "cpu"])
def test_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(SizingError):
        find(name)


def test_memory_contradicting_the_card_is_refused() -> None:
    with pytest.raises(SizingError, match="not in the catalogue"):
        find("H100 SXM 40GB")


def test_figures_are_in_the_units_they_claim() -> None:
    for gpu in catalogue():
        assert 0.89 < gpu.total_gib / gpu.memory_gb <= 1.0, gpu.name
        assert 250 <= gpu.bandwidth_gb_s <= 8000, gpu.name
        assert gpu.bf16_tflops <= 2500, gpu.name
        assert gpu.fp8_tflops in (0.0, pytest.approx(2 * gpu.bf16_tflops, rel=0.02)), gpu.name
        assert (gpu.nvlink_domain > 1) <= (gpu.nvlink_gb_s > 0), gpu.name


def test_formats_without_units_run_at_the_16_bit_speed() -> None:
    a100 = find("A100 SXM 80GB")
    assert a100.native_formats == {"fp16", "bf16", "int8"}
    assert a100.tflops("fp8") == a100.bf16_tflops
    assert find("B200").native_formats >= {"fp8", "nvfp4", "mxfp4"}
