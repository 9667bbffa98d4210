"""The capacity report as Markdown, for a ticket or a merge request."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any, Final

_SPECIAL: Final = re.compile(r"([\\`*_{}\[\]|#~])")


def markdown(report: Mapping[str, Any]) -> str:
    """Return the report as text; every value is escaped."""
    lines = [
        f"# Capacity of {cell(report['site'])}",
        "",
        f"For vLLM {cell(report['vllm_version'])}; inventory `{report['inventory_sha256'][:12]}`. "
        "Predictions, not measurements: after an engine starts, its own figures are compared with "
        "these.",
        "",
        *_section("Engines", _engines(report)),
        *_section("Options of the engines", _options(report)),
        *_section("Memory of each GPU (GiB)", _memory(report)),
        *_section("Hosts", _hosts(report)),
        *_section("What a loss takes down", _losses(report)),
        *_section("Recovery that is declared", _recovery(report)),
        *_section("Service level", _service(report)),
        *_section("Alternatives", _alternatives(report)),
        *_section("Bill of materials: hardware", _hardware(report)),
        *_section("Bill of materials: software", _software(report)),
        *_section("Not stated", _bullets(report["bom"]["open"])),
        *_section("Notes", _bullets(report["notes"])),
        *_section("Rules", _bullets(report["rules"])),
    ]
    return "\n".join(lines).rstrip() + "\n"


def _section(title: str, body: Sequence[str]) -> list[str]:
    return [f"## {title}", "", *body, ""] if body else []


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    body = ["| " + " | ".join(cell(value) for value in row) + " |" for row in rows]
    if not body:
        return []
    return ["| " + " | ".join(head) + " |", "|" + "---|" * len(head), *body]


def cell(value: object) -> str:
    """Return a value as one cell: escaped, on one line, with a dash for nothing."""
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(cell(item) for item in value) or "-"
    text = shown(value)
    return escape(_SPECIAL.sub(r"\\\1", " ".join(text.split())), quote=False)


def shown(value: object) -> str:
    """Return a number with its thousands parted and without needless digits, or a text as it is."""
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.10g}" if isinstance(value, float) else str(value)


def options_of(args: Mapping[str, Any]) -> list[str]:
    """Return an engine's options as they stand behind ``vllm serve``."""
    return [_option(name.replace("_", "-"), value) for name, value in args.items()]


def _option(name: str, value: object) -> str:
    if isinstance(value, bool):
        return f"--{name}" if value else f"--no-{name}"
    text = json.dumps(value) if isinstance(value, (dict, list)) else str(value)
    return f"--{name} {shlex.quote(text)}"


def _bullets(values: Sequence[str]) -> list[str]:
    return [f"- {cell(value)}" for value in values]


def _engines(report: Mapping[str, Any]) -> list[str]:
    head = ("instance", "model", "GPUs", "TP", "PP", "context", "KV tokens", "full requests")
    return _table(
        head,
        (
            (
                one["id"],
                one["architecture"],
                one["gpus"],
                one["tensor_parallel_size"],
                one["pipeline_parallel_size"],
                one["max_model_len"],
                one["kv_cache_tokens"],
                one["max_concurrency"],
            )
            for one in report["instances"]
        ),
    )


def _memory(report: Mapping[str, Any]) -> list[str]:
    head = ("host", "GPU", "kind", "total", "taken by")
    return _table(
        head,
        (
            (
                bar["host"],
                bar["gpu"],
                bar["kind"],
                bar["total_gib"],
                _taken(bar["parts"]),
            )
            for bar in report["gpus"]
        ),
    )


def _taken(parts: Sequence[Mapping[str, Any]]) -> str:
    """Return who takes how much of one GPU, each engine once."""
    engines: dict[str, list[str]] = {}
    for part in parts:
        engines.setdefault(part["instance"], []).append(f"{part['part']} {part['gib']:.2f}")
    return "; ".join(f"{name}: {', '.join(taken)}" for name, taken in engines.items())


def _losses(report: Mapping[str, Any]) -> list[str]:
    rows = ((loss["what"], loss["instances"]) for loss in report["losses"])
    return _table(("loss", "instances"), rows)


def _recovery(report: Mapping[str, Any]) -> list[str]:
    return _table(
        ("model", "instances", "RTO in seconds", "RPO"),
        (
            (one["model"], one["instances"], one["rto_seconds"], one["rpo"])
            for one in report["recovery"]
        ),
    )


def _options(report: Mapping[str, Any]) -> list[str]:
    return _table(
        ("instance", "options of vllm serve"),
        ((one["id"], " ".join(options_of(one["args"]))) for one in report["instances"]),
    )


def _hosts(report: Mapping[str, Any]) -> list[str]:
    head = (
        "host",
        "memory needed / stated",
        "models",
        "disk needed / stated",
        "GPU W",
        "W with server",
        "minutes to bring models",
    )
    return _table(
        head,
        (
            (
                one["host"],
                f"{cell(one['memory_gib'])} / {cell(one['memory_stated_gib'])}",
                one["models_gib"],
                f"{cell(one['disk_gib'])} / {cell(one['disk_stated_gib'])}",
                one["gpu_power_w"],
                one["power_w"],
                one["transfer_minutes"],
            )
            for one in report["hosts"]
        ),
    )


def _service(report: Mapping[str, Any]) -> list[str]:
    head = ("model", "instances", "users", "one carries", "answer", "because", "next best")
    return _table(
        head,
        (
            (
                line["model"],
                line["instances"],
                line["users"],
                line["users_per_instance"],
                line["verdict"],
                "; ".join(line["because"]),
                "; ".join(next_best_text(one) for one in line["next_best"]),
            )
            for line in report["service"]
        ),
    )


def _alternatives(report: Mapping[str, Any]) -> list[str]:
    head = (
        "alternative",
        "servers",
        "GPUs",
        "used",
        "GPU W",
        "rack units",
        "GPU h / month",
        "cost",
    )
    return _table(
        [*head, "fits"],
        (
            (
                row["description"],
                row["servers"],
                row["gpus"],
                row["gpus_used"],
                row["gpu_power_w"],
                row["rack_units"],
                row["gpu_hours_per_month"],
                cost_text(row["cost"]),
                "yes" if row["fits"] else f"no: {row['why']}",
            )
            for row in report["alternatives"]
        ),
    )


def next_best_text(one: Mapping[str, Any]) -> str:
    """Return a deployment that would do, or would do better, in words."""
    keeps = "" if one["reachable"] else " (not enough either)"
    return f"{one['change']}: {one['gpus']} GPUs, {one['gpu_power_w']:,} W{keeps}"


def cost_text(cost: Mapping[str, Any] | None) -> str | None:
    """Return a cost in words; nothing without a list of prices."""
    if cost is None:
        return None
    total = f"{cost['sum_of_known']:,.0f} {cost['currency']} in {cost['years']:g} years"
    return total if cost["complete"] else f"{total}, prices missing"


def _hardware(report: Mapping[str, Any]) -> list[str]:
    head = ("count", "for", "GPUs", "memory GiB", "disk GiB", "Gbit/s", "rack units", "hosts")
    return _table(
        head,
        (
            (
                line["count"],
                line["roles"],
                f"{line['gpus']} x {line['gpu']}" if line["gpu"] else None,
                line["memory_gib"],
                line["disk_gib"],
                line["network_gbit"],
                line["rack_units"],
                line["hosts"],
            )
            for line in report["bom"]["hardware"]
        ),
    )


def _software(report: Mapping[str, Any]) -> list[str]:
    head = ("part", "type", "for", "main components", "files", "bytes", "licence")
    keys = ("part", "type", "scope", "main", "components", "bytes", "licence")
    return _table(head, ([line[key] for key in keys] for line in report["bom"]["software"]))
