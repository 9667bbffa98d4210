"""How GPUs are joined is read from real matrices of several kinds of machines."""

from __future__ import annotations

import pytest

from tresor.gpu.topology import nvlink_domains, parse_nvlink_status, parse_topology
from tresor.gpu.values import ReadingError

from .conftest import fixture


@pytest.mark.parametrize(
    ("name", "domains"),
    [
        ("topo-p4d-8x-a100", [[0, 1, 2, 3, 4, 5, 6, 7]]),
        ("topo-4x-h100-with-nics", [[0, 1, 2, 3]]),
        ("topo-4x-3090-bridged-pairs", [[0, 2], [1, 3]]),
        ("topo-8x-v100-hybrid-mesh", [[0, 1, 2, 3], [4, 5, 6, 7]]),
        ("topo-8x-pcie-only", [[0], [1], [2], [3], [4], [5], [6], [7]]),
    ],
)
def test_domain_is_a_group_in_which_every_pair_has_nvlink(
    name: str, domains: list[list[int]]
) -> None:
    assert nvlink_domains(parse_topology(fixture(f"{name}.txt"))) == domains


def test_affinity_is_read_behind_columns_of_nics() -> None:
    topology = parse_topology(fixture("topo-4x-h100-with-nics.txt"))

    assert topology.cpu_affinity == {
        0: "6,14,22,30",
        1: "4,12,20,28",
        2: "7,15,23,31",
        3: "5,13,21,29",
    }
    assert topology.numa_node == {0: 3, 1: 1, 2: 7, 3: 5}
    assert topology.links[0, 3] == "NV6"


def test_older_driver_tells_no_numa_node() -> None:
    topology = parse_topology(fixture("topo-8x-v100-hybrid-mesh.txt"))

    assert topology.numa_node == {}
    assert topology.cpu_affinity[7] == "0-95"


def test_one_gpu_is_a_domain_of_its_own() -> None:
    text = "\tGPU0\tCPU Affinity\tNUMA Affinity\nGPU0\t X \t0-15\t0\n"

    assert nvlink_domains(parse_topology(text)) == [[0]]


@pytest.mark.parametrize("text", ["", "No devices were found\n", "\tGPU0\tGPU1\nGPU0\t X \tNV4\n"])
def test_no_matrix_or_half_of_one_is_refused(text: str) -> None:
    with pytest.raises(ReadingError):
        parse_topology(text)


def test_row_with_too_few_cells_is_refused() -> None:
    with pytest.raises(ReadingError, match="row GPU1 has 1 cells, expected 2"):
        parse_topology("\tGPU0\tGPU1\nGPU0\t X \tNV4\nGPU1\tNV4\n")


def test_links_are_counted_for_each_gpu() -> None:
    links = parse_nvlink_status(fixture("nvlink-2-of-8x-h100.txt"))

    assert {index: (link.active, link.total) for index, link in links.items()} == {
        0: (18, 18),
        1: (18, 18),
    }
    assert links[0].gb_per_s[0] == 26.562


def test_link_that_is_down_is_counted_as_such() -> None:
    links = parse_nvlink_status(fixture("handmade-nvlink-one-link-down.txt"))

    assert (links[0].active, links[0].total) == (2, 3)
