"""The importer with all gates: evidence lets a bundle wait for approval, its absence does not."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from python_plugins.tests.bundle.evidence import with_evidence
from python_plugins.tests.bundle.helpers import NOW, Maker, Site
from tresor.bundle import gates
from tresor.bundle.errors import RejectedError
from tresor.policy import hook


@pytest.fixture(autouse=True)
def all_gates(only_contents: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gates, "GATES", {**gates.GATES, **hook.GATES})


class Product:
    """A bundle that every gate takes when it is a day old."""

    def __init__(self, maker: Maker) -> None:
        self.maker = maker
        self._times = with_evidence(maker, NOW - timedelta(days=1))
        self.parts = maker.parts

    def make(self) -> Maker:
        self.maker.make(**self._times)
        return self.maker


@pytest.fixture
def product(maker: Maker) -> Product:
    return Product(maker)


def test_bundle_with_evidence_waits_and_shows_what_the_gates_said(
    site: Site, product: Product
) -> None:
    assert site.take(product.make()).state == "AWAIT_APPROVAL"
    for person in site.people:
        site.approve(person)
    site.activate()
    receipt = json.loads((site.store.current / "receipt.json").read_bytes())
    assert {item["gate"] for item in receipt["verdicts"]} >= {"contents", *hook.NAMES}


@pytest.mark.parametrize("part", ["policy-sbom", "policy-report"])
def test_bundle_without_evidence_is_refused(site: Site, product: Product, part: str) -> None:
    del product.parts[part]
    with pytest.raises(RejectedError, match=r"sbom|vulnerabilities|licences"):
        site.take(product.make())
    assert site.events()[-1] == "import.rejected"
    assert not any((site.store.root / "blobs").rglob("*"))


def test_content_that_the_bill_does_not_name_is_refused(site: Site, product: Product) -> None:
    product.parts["distribution"][2]["unlisted"] = b"not in the bill of materials"
    with pytest.raises(RejectedError, match="sbom"):
        site.take(product.make())


def test_evidence_that_is_older_than_the_bundle_is_refused(site: Site, maker: Maker) -> None:
    with_evidence(maker, NOW - timedelta(days=40))
    maker.make(created="2026-11-22T00:00:00Z")
    with pytest.raises(RejectedError, match=r"malware|vulnerabilities"):
        site.take(maker)
