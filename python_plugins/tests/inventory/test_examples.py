"""The example inventories are valid, and what they promise about data holds."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

from tresor.inventory.loader import load_inventory
from tresor.inventory.sources import CONCERNS

from .conftest import ROOT, SCHEMAS

EXAMPLES = ("lab", "single_node", "production")


@pytest.mark.parametrize("name", EXAMPLES)
def test_example_is_valid(name: str) -> None:
    inventory = load_inventory(ROOT / "inventories" / name, SCHEMAS)

    assert set(inventory.concerns) == set(CONCERNS)


@pytest.mark.parametrize("name", EXAMPLES)
def test_example_comments_out_no_option(name: str) -> None:
    for path in (ROOT / "inventories" / name).rglob("*.yml"):
        assert not re.search(r"^\s*#\s*\w+:( |$)", path.read_text(encoding="utf-8"), re.M), path


def test_digest_is_what_sha256sum_prints(lab: Path) -> None:
    files = ["hosts.yml", *(f"group_vars/all/{concern}.yml" for concern in CONCERNS)]
    lines = [f"{hashlib.sha256((lab / f).read_bytes()).hexdigest()}  {f}\n" for f in sorted(files)]

    digest = load_inventory(lab, SCHEMAS).sha256

    assert digest == hashlib.sha256("".join(lines).encode()).hexdigest()
