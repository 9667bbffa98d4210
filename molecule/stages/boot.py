"""Boot the lab's hosts and the company's side."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from stages import bundle, parts
from stages.shell import BUILD, REPOSITORY, lab, on_host, output, put, run

COMPANY_PARTS = ("npm-idp", "wheels-company-client", "wheels-tools")
_CONCERNS = REPOSITORY / "inventories" / "lab"


def preflight() -> None:
    """Say at once what keeps this machine from running the lab, before minutes of work."""
    run(lab("preflight"), what="preflight")


def trees_and_bundle() -> Path:
    """Build the hosts' operating system trees and the bundle side by side; return the bundle."""
    with ThreadPoolExecutor(1) as pool:
        trees = pool.submit(run, lab("trees"), what="build the hosts' operating system trees")
        built = bundle.build()
        trees.result()
    return built


def hosts(*names: str) -> None:
    """Boot all hosts, or those named; base trees are built first where the cache has none."""
    run(lab("up", *names), what="lab up")


def company(built: Path) -> None:
    """Give company1 its own programs out of the bundle and start its identity provider."""
    folder = BUILD / "company"
    run(lab("unmount-medium", "company1"), what="unmount the company's medium")
    parts.lay_out(built, COMPANY_PARTS, folder)
    run(lab("mount-medium", "company1", str(folder)), what="mount the company's medium")
    run(lab("company-up", "--npm", str(folder / "npm-idp")), what="start the identity provider")


def inventory(overlay: Path | None = None) -> None:
    """Put the lab's inventory where the bastion's operator keeps the site's.

    Files of ``overlay``, a folder of the same layout, take the place of the lab's.
    """
    found: dict[Path, Path] = {}
    for folder in (_CONCERNS, *([overlay] if overlay else [])):
        found |= {path.relative_to(folder): path for path in folder.rglob("*") if path.is_file()}
    for relative, path in sorted(found.items()):
        put("bastion", str(Path("/etc/tresor/inventory") / relative), path.read_bytes())


def internet_counter(*, reset: bool = False) -> dict[str, Any]:
    """Return what internet1 received from the site: {"packets": int, "bytes": int}."""
    arguments = ["internet-counter", *(["--reset"] if reset else [])]
    counter: dict[str, Any] = json.loads(output(lab(*arguments), what="read internet1's counter"))
    return counter


def bastion_file(path: str) -> str:
    """Return the text of a file on the bastion."""
    return output(on_host("bastion", "cat", path), what=f"read {path} on the bastion")
