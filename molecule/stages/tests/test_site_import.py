"""The site that imports in the lab is the one that its waivers and its inventory name."""

from __future__ import annotations

from pathlib import Path

import yaml

from stages import site_import

ROOT = Path(__file__).resolve().parents[3]


def test_the_labs_waivers_are_for_the_site_that_imports() -> None:
    policy = yaml.safe_load((ROOT / "bundle/spec/lab/policy.yml").read_text())["policy"]
    assert [row["site"] for row in policy["waivers"]] == [site_import.SITE] * 2
    site = yaml.safe_load((ROOT / "inventories/lab/group_vars/all/site.yml").read_text())
    assert site["tresor_site"]["name"] == site_import.SITE


def test_what_every_bundle_carries_has_no_waiver() -> None:
    policy = yaml.safe_load((ROOT / "bundle/spec/policy.yml").read_text())["policy"]
    assert not policy.get("waivers")
