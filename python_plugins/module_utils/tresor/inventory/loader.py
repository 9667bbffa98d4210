"""Load a site's inventory: read every file, validate it, and report all problems at once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from ..placement.site import Capacity
from . import (
    check_canaries,
    check_extras,
    check_flows,
    check_hardware,
    check_models,
    check_network,
    check_nodes,
    check_planning,
    check_policy,
)
from .capacity import misfit_problems, site_capacity
from .catalogue import Resolved, notes, resolve_models
from .document import Document, read_document
from .hosts import GROUPS, HostTable, read_hosts
from .problems import NOTHING, InventoryError, Problem, one_of, seen_text
from .schema_check import load_schema, schema_problems
from .sources import (
    CONCERN_FOLDER,
    CONCERNS,
    HOSTS_FILE,
    OPTIONAL,
    WIRING_FILE,
    Sources,
    variable,
)

CHECKS: Final = (
    check_network,
    check_models,
    check_nodes,
    check_extras,
    check_canaries,
    check_policy,
    check_flows,
    check_planning,
)
CATALOGUE: Final = "catalogue/models"
"""The entries of the catalogue, seen from the folder above the schemas."""


@dataclass(frozen=True)
class Inventory:
    """A valid inventory: every concern's value, the hosts, what fits where, the files' digest."""

    concerns: dict[str, Any]
    hosts: HostTable
    sha256: str
    planning: dict[str, Any]
    capacity: Capacity
    resolved: Resolved = field(default_factory=dict)
    """Models with an entry of the catalogue, by their place."""


def load_inventory(directory: Path, schema_dir: Path, *, must_fit: bool = True) -> Inventory:
    """Return the validated inventory of a directory.

    Without `must_fit`, engines that do not fit on their hosts stay as misfits in `capacity`: for a
    site whose hosts are still to be bought.

    The catalogue of models lies beside the schemas. Models that name an entry of it are filled in
    before they are checked.

    Raises InventoryError with every problem found; OSError or ValueError if a schema is unusable.
    """
    problems = list(_stray_files(directory))
    documents: dict[str, Document] = {}
    present = [name for name in OPTIONAL if (directory / CONCERN_FOLDER / f"{name}.yml").exists()]
    for concern in (*CONCERNS, *present):
        document, found = read_document(directory, f"{CONCERN_FOLDER}/{concern}.yml")
        problems += found
        if document is not None:
            documents[concern] = document
    hosts_document, found = read_document(directory, HOSTS_FILE)
    problems += found
    hosts = HostTable()
    if hosts_document is not None:
        hosts, found = read_hosts(hosts_document)
        problems += found
    resolved: Resolved = {}
    if "models" in documents:
        catalogue = schema_dir.parent / CATALOGUE
        entry = load_schema(schema_dir, "catalogue")
        documents["models"], resolved, found = resolve_models(documents["models"], catalogue, entry)
        problems += found
    sources = Sources(documents, hosts_document, hosts)
    for concern, document in documents.items():
        schema = load_schema(schema_dir, concern)
        problems += schema_problems(document, variable(concern), schema)
    problems += check_hardware.check(sources, load_schema(schema_dir, "hardware"))
    for check in CHECKS:
        problems += check.check(sources)
    problems += _wiring(directory)
    if problems or hosts_document is None:
        raise InventoryError(problems)
    concerns = {concern: sources.value(concern) for concern in CONCERNS}
    planning = sources.value("planning") or {}
    capacity = site_capacity(concerns, planning, hosts)
    capacity = replace(capacity, notes=(*capacity.notes, *notes(concerns["models"], resolved)))
    if must_fit and capacity.placement.misfits:
        raise InventoryError(misfit_problems(sources, capacity))
    digest = _digest([hosts_document, *documents.values()])
    return Inventory(concerns, hosts, digest, planning, capacity, resolved)


def _digest(documents: list[Document]) -> str:
    """Return what `sha256sum FILES | sha256sum` prints for the files in the order of their names.

    An auditor can repeat it with the tools of any host.
    """
    lines = "".join(
        f"{document.sha256}  {document.file}\n"
        for document in sorted(documents, key=lambda item: item.file)
    )
    return hashlib.sha256(lines.encode()).hexdigest()


def _stray_files(directory: Path) -> Iterator[Problem]:
    """A misspelt file name would be read by Ansible and by nobody else."""
    known = [f"{concern}.yml" for concern in (*CONCERNS, *OPTIONAL)] + [WIRING_FILE]
    folder = directory / CONCERN_FOLDER
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.name not in known:
            file = f"{CONCERN_FOLDER}/{path.name}"
            fix = f"{one_of(known, path.name)}, or remove it"
            yield Problem(file, 1, "(whole file)", "unknown file", seen_text(path.name), fix)
    allowed = ["all", *(f"{group}.yml" for group in GROUPS)]
    folder = directory / "group_vars"
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.name not in allowed:
            file = f"group_vars/{path.name}"
            fix = f"{one_of(allowed, path.name)}, or remove it"
            yield Problem(file, 1, "(whole file)", "unknown file", seen_text(path.name), fix)
    if (directory / "host_vars").exists():
        fix = "put the host's variables into hosts.yml and role variables into group_vars"
        yield Problem("host_vars", 1, "(folder)", "is not read", seen_text("host_vars"), fix)


def _wiring(directory: Path) -> Iterator[Problem]:
    """The wiring may use Jinja and is not part of the plan, but must not override a concern."""
    files = [f"{CONCERN_FOLDER}/{WIRING_FILE}", *(f"group_vars/{group}.yml" for group in GROUPS)]
    for file in files:
        if not (directory / file).exists():
            continue
        document, problems = read_document(directory, file)
        if document is None:
            yield from problems
            continue
        yield from (problem for problem in problems if "Jinja" not in problem.wrong)
        if document.data is not None and not isinstance(document.data, dict):
            fix = "write variables, one per line"
            yield document.problem((), "is no mapping of variables", fix)
            continue
        for key in document.data or {}:
            concern = key.removeprefix("tresor_")
            if concern in (*CONCERNS, *OPTIONAL) and key.startswith("tresor_"):
                fix = f"put it into {CONCERN_FOLDER}/{concern}.yml"
                yield document.problem((key,), "is no wiring", fix, seen=NOTHING)
