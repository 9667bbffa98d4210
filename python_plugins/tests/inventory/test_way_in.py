"""The bastion of a site stays open to the administrators, or the inventory is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from tresor.inventory.loader import load_inventory
from tresor.inventory.problems import InventoryError, Problem

from .conftest import ROOT, SCHEMAS

FLOWS, SITE = "group_vars/all/flows.yml", "group_vars/all/site.yml"
WAY_IN = """  - name: admin-ssh
    description: Administrators reach the bastion, the only way in.
    from: ["network:admin"]
    to: [bastion]
    proto: tcp
    ports: "22"
"""


def change(site: Path, file: str, old: str, new: str) -> None:
    text = (site / file).read_text(encoding="utf-8")
    assert text.count(old) == 1
    (site / file).write_text(text.replace(old, new), encoding="utf-8")


def found(site: Path) -> tuple[Problem, ...]:
    with pytest.raises(InventoryError) as caught:
        load_inventory(site, SCHEMAS)
    return caught.value.problems


def test_site_without_a_way_in_is_refused(production: Path) -> None:
    change(production, FLOWS, WAY_IN, "")

    (problem,) = found(production)

    assert (problem.file, problem.key) == (FLOWS, "tresor_flows")
    assert problem.wrong == "no flow lets anyone outside the managed hosts reach bastion1 on tcp 22"
    assert "users-api" in problem.seen
    assert 'from: ["network:<name>"] to: [bastion] proto: tcp ports: "22"' in problem.fix


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('["network:admin"]', "[ops]"),  # a managed host: nobody reaches it either
        ('["network:admin"]', '["external:canary"]'),  # the internet
        ("to: [bastion]", "to: [gateway]"),
        ("proto: tcp", "proto: udp"),
        ('ports: "22"', 'ports: "2222"'),
    ],
)
def test_flow_that_is_no_way_in_does_not_count(production: Path, old: str, new: str) -> None:
    change(production, FLOWS, WAY_IN, WAY_IN.replace(old, new))

    assert any("no flow lets anyone outside" in problem.wrong for problem in found(production))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('["network:admin"]', '[ops, "external:idp"]'),
        ("to: [bastion]", "to: [site]"),
        ('ports: "22"', 'ports: "20:30"'),
    ],
)
def test_any_flow_that_is_a_way_in_counts(production: Path, old: str, new: str) -> None:
    change(production, FLOWS, WAY_IN, WAY_IN.replace(old, new))

    load_inventory(production, SCHEMAS)


def test_lab_needs_no_way_in(lab: Path) -> None:
    assert "admin-ssh" not in (lab / FLOWS).read_text(encoding="utf-8")

    load_inventory(lab, SCHEMAS)


def test_lab_that_becomes_a_site_needs_a_way_in(lab: Path) -> None:
    change(lab, SITE, "level: lab", "level: production")

    assert any("no flow lets anyone outside" in problem.wrong for problem in found(lab))


def test_examples_of_real_sites_have_a_way_in() -> None:
    for name in ("production", "single_node"):
        assert WAY_IN in (ROOT / "inventories" / name / FLOWS).read_text(encoding="utf-8")
