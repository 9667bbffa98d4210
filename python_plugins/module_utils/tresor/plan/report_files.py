"""The files of the capacity report, and the files that it is made from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from ..inventory.document import Document, read_document
from ..inventory.loader import Inventory
from ..inventory.problems import InventoryError
from ..inventory.schema_check import load_schema, schema_problems, violations
from ..placement.load import ServiceModel
from ..placement.markdown import markdown
from ..placement.page import page
from ..placement.prices import PriceError, Prices, prices_of
from ..placement.proposal import propose
from ..placement.recommend import server_of
from ..placement.report import Bundle, Subject, capacity_report

NAMES: Final = ("capacity.json", "capacity.md", "capacity.html")
LIMIT: Final = 8 * 1024 * 1024
"""Bytes of one lock or specification."""
_PRICES: Final = "tresor_prices"


class ReportError(Exception):
    """The report cannot be made; says which file, and why."""


def report_files(
    inventory: Inventory,
    schema_dir: Path,
    *,
    bundle_dir: Path | None,
    prices_file: Path | None,
    service: ServiceModel,
    server: Mapping[str, Any] | None = None,
) -> dict[str, str]:
    """Return the texts of the report by file name.

    With `server` (gpu, gpus) it is a report on servers of that kind, in place of the site's own.
    Raises ReportError, InventoryError for a list of prices that is wrong, and ProposalError.
    """
    subject = Subject(
        name=inventory.concerns["site"]["name"],
        inventory_sha256=inventory.sha256,
        hosts={name: host.variables for name, host in inventory.hosts.hosts.items()},
        groups=inventory.hosts.groups,
        planning=inventory.planning,
        slo=inventory.concerns["slo"],
        recovery={
            model["name"]: model["recovery"]
            for model in inventory.concerns["models"]
            if "recovery" in model
        },
    )
    capacity = inventory.capacity
    if server is not None:
        kind = server_of(server["gpu"], server["gpus"])
        subject, capacity = propose(subject, capacity, kind, service)
    prices = read_prices(prices_file, schema_dir) if prices_file else None
    report = capacity_report(subject, capacity, read_bundle(bundle_dir), service, prices)
    wrong = violations(report, load_schema(schema_dir, "capacity"))
    if wrong:
        raise ReportError("the report does not fit capacity.schema.json: " + "; ".join(wrong))
    text = json.dumps(report, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    return dict(zip(NAMES, (text, markdown(report), page(report)), strict=True))


def read_prices(path: Path, schema_dir: Path) -> Prices:
    """Return a site's list of prices."""
    document, problems = read_document(path.parent, path.name)
    if document is not None:
        problems += schema_problems(document, _PRICES, load_schema(schema_dir, "prices"))
    if problems or document is None:
        raise InventoryError(problems)
    return _prices(document)


def _prices(document: Document) -> Prices:
    try:
        return prices_of(document.value((_PRICES,)))
    except PriceError as error:
        raise ReportError(f"{document.file}: {error}") from None


def read_bundle(folder: Path | None) -> Bundle:
    """Return locks and specifications below a bundle's folder; nothing where there is none."""
    if folder is None or not (folder / "lock").is_dir():
        return Bundle({}, {})
    locks: dict[str, Mapping[str, Any]] = {}
    for path in sorted((folder / "lock").glob("*.json")):
        try:
            lock = json.loads(_text(path))
        except ValueError as error:
            raise ReportError(f"{path}: is no JSON: {error}") from None
        locks[path.stem] = lock
    specs: dict[str, Mapping[str, Any]] = {}
    for path in sorted((folder / "spec").rglob("*.yml")):
        try:
            spec = yaml.safe_load(_text(path))
        except yaml.YAMLError as error:
            raise ReportError(f"{path}: is no YAML: {error}") from None
        parts = spec.get("parts") if isinstance(spec, dict) else None
        for part in parts if isinstance(parts, list) else ():
            specs[part["name"]] = {**part, "scope": "lab" if _is_lab(path) else "product"}
    return Bundle(locks, specs)


def _is_lab(path: Path) -> bool:
    """Return whether a specification is for evaluation only, as the builder tells it."""
    return path.parent.name == "lab"


def _text(path: Path) -> str:
    with path.open("rb") as stream:
        raw = stream.read(LIMIT + 1)
    if len(raw) > LIMIT:
        raise ReportError(f"{path}: has more than {LIMIT} bytes")
    return raw.decode("utf-8")
