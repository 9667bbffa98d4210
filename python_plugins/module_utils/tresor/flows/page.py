"""The flow matrix for people: a table and a drawing in Markdown, from the resolved plan."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def table(flows: Iterable[Mapping[str, Any]]) -> str:
    """Return a table of the inventory's flows, one line for each."""
    lines = [
        "| flow | from | to | port | only user | what for |",
        "|---|---|---|---|---|---|",
    ]
    for flow in flows:
        cells = (
            flow["name"],
            ", ".join(flow["from"]),
            ", ".join(flow["to"]),
            f"{flow['proto']} {flow['ports'].replace(':', ' to ')}",
            flow.get("user", "any"),
            flow["description"],
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def drawing(flows: Iterable[Mapping[str, Any]]) -> str:
    """Return a Mermaid drawing of the inventory's flows."""
    lines = ["flowchart LR"]
    for flow in flows:
        for source in flow["from"]:
            for target in flow["to"]:
                label = f"{flow['proto']} {flow['ports'].replace(':', ' to ')}"
                lines.append(
                    f'  {_node(source)}["{source}"] -->|"{flow["name"]}: {label}"| '
                    f'{_node(target)}["{target}"]'
                )
    return "\n".join(lines) + "\n"


def _node(endpoint: str) -> str:
    return endpoint.replace(":", "_").replace("-", "_")
