"""Turn the lab's inventory into one whose chat model is one engine over both GPU hosts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

VARS = "group_vars/all"
FABRIC = {"ipv4": "192.0.2.0/26"}
ENDS = {
    "gpu1": {"tresor_fabric_ipv4": "192.0.2.31", "tresor_fabric_interface": "fabric0"},
    "gpu2": {"tresor_fabric_ipv4": "192.0.2.32", "tresor_fabric_interface": "fabric0"},
}
PLACEMENT = {
    "instance": "span",
    "groups": [],
    "hosts": ["gpu2", "gpu1"],
    "port": 8110,
    "nodes": 2,
}
FLOW = {
    "name": "fabric",
    "description": "Hosts of one engine talk among themselves.",
    "from": ["fabric"],
    "to": ["fabric"],
    "proto": "tcp",
    "ports": "29500:60999",
    "user": "vllm",
}


def change(root: Path, name: str, key: str, edit: Any) -> None:
    """Edit the value of a file's one variable in place."""
    path = root / name
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    edit(content[key])
    plain = json.loads(json.dumps(content))  # what stands twice would be written as an alias
    path.write_text(yaml.safe_dump(plain, sort_keys=False), encoding="utf-8")


def span(
    root: Path,
    *,
    fabric: Mapping[str, Any] | None = FABRIC,
    flow: Mapping[str, Any] | None = FLOW,
    ends: Mapping[str, Mapping[str, Any]] = ENDS,
    parallelism: Mapping[str, Any] | None = None,
    **placement: Any,
) -> Path:
    """Change the copy of the lab's inventory below `root`, and return it."""

    def models(entries: list[dict[str, Any]]) -> None:
        entries[0]["parallelism"] = dict(parallelism or {"tensor": 1, "pipeline": 2})
        entries[0]["placement"] = [{**PLACEMENT, **placement}]

    def hosts(everything: dict[str, Any]) -> None:
        for name, variables in ends.items():
            everything["children"]["gpu"]["hosts"][name].update(variables)

    change(root, f"{VARS}/models.yml", "tresor_models", models)
    change(root, "hosts.yml", "all", hosts)
    if fabric is not None:
        change(root, f"{VARS}/site.yml", "tresor_site", lambda s: s.update(fabric=dict(fabric)))
    if flow is not None:
        change(root, f"{VARS}/flows.yml", "tresor_flows", lambda f: f.append(dict(flow)))
    return root
