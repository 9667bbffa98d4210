"""The capacity report as one HTML file: it fetches nothing, runs nothing, escapes every value."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any, Final

from .markdown import cost_text, next_best_text, options_of, shown
from .memory_bar import COLOURS, FREE, NAMES, memory_bar

_NAME: Final = re.compile(r"[\w.@/]+(-[\w.@/]+)+")
# Wide tables scroll by themselves on a narrow screen. Printed, a page is landscape, keeps its
# colours, repeats the heads of tables, and breaks between rows only.
STYLE: Final = (
    "body{font:15px/1.5 sans-serif;margin:2em auto;max-width:76em;padding:0 1em;color:#222;"
    "background:#fff}"
    "code{overflow-wrap:anywhere}"
    ".wide{overflow-x:auto;margin:.5em 0 1.5em}"
    "table{border-collapse:collapse}"
    "th,td{border:1px solid #ccc;padding:.25em .6em;text-align:left;vertical-align:top}"
    "th{background:#f2f2f2}.no{color:#a00000}.key{display:inline-block;margin-right:1.2em}"
    ".w,.n{white-space:nowrap}.n{text-align:right;font-variant-numeric:tabular-nums}"
    "svg{vertical-align:middle;print-color-adjust:exact;-webkit-print-color-adjust:exact}"
    "@media print{@page{size:A4 landscape;margin:12mm}"
    "body{font-size:9pt;margin:0;max-width:none;padding:0}"
    ".wide{overflow:visible}thead{display:table-header-group}tr,li{break-inside:avoid}"
    "h2{break-after:avoid}.bar{width:150mm;height:auto}}"
)


def page(report: Mapping[str, Any]) -> str:
    """Return the page."""
    digest = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    title = f"Capacity of {report['site']}"
    body = [
        f"<h1>{escape(title)}</h1>",
        f"<p>For vLLM {_text(report['vllm_version'])}, inventory "
        f"<code>{_text(report['inventory_sha256'])}</code>. Predictions, not measurements: after "
        "an engine starts, its own figures are compared with these.</p>",
        *_section("Memory", [_key(), _bars(report)]),
        *_section("Engines", _engines(report)),
        *_section("Options of the engines", _options(report)),
        *_section("Hosts", _hosts(report)),
        *_section("What a loss takes down", _losses(report)),
        *_section("Recovery that is declared", _recovery(report)),
        *_section("Service level", _service(report)),
        *_section("Alternatives", _alternatives(report)),
        *_section("Bill of materials", _bom(report)),
        *_section("Not stated", _list(report["bom"]["open"])),
        *_section("Notes", _list(report["notes"])),
        *_section("Rules", _list(report["rules"])),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(policy)}">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n<body>\n"
        + "\n".join(body)
        + "\n</body></html>\n"
    )


def _section(title: str, body: Sequence[str]) -> list[str]:
    return [f"<h2>{escape(title)}</h2>", *body] if any(body) else []


def _text(value: object) -> str:
    if value is None or value == "":
        return "&ndash;"
    if isinstance(value, bool):
        return "yes" if value else '<span class="no">no</span>'
    if isinstance(value, (list, tuple)):
        return ", ".join(_text(item) for item in value) or "&ndash;"
    text = escape(shown(value))
    # A name with hyphens breaks at none of them.
    return f'<span class="w">{text}</span>' if _NAME.fullmatch(text) else text


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    body = ["<tr>" + "".join(_cell(cell) for cell in row) + "</tr>" for row in rows]
    return [_framed(head, body)] if body else []


def _cell(value: object) -> str:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return f'<td class="n">{_text(value)}</td>' if number else f"<td>{_text(value)}</td>"


def _framed(head: Sequence[str], rows: Sequence[str]) -> str:
    names = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    return (
        f'<div class="wide"><table><thead><tr>{names}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _list(values: Sequence[str]) -> list[str]:
    items = "".join(f"<li>{_text(value)}</li>" for value in values)
    return [f"<ul>{items}</ul>"] if items else []


def _key() -> str:
    names = "".join(
        f'<span class="key"><svg width="12" height="12"><rect width="12" height="12" '
        f'fill="{colour}"/></svg> {escape(NAMES.get(name, name))}</span>'
        for name, colour in {**COLOURS, "free": FREE}.items()
    )
    return f"<p>{names}</p>"


def _bars(report: Mapping[str, Any]) -> str:
    rows = []
    for bar in report["gpus"]:
        engines = list(dict.fromkeys(part["instance"] for part in bar["parts"]))
        taken = sum(part["gib"] for part in bar["parts"])
        there = f"{bar['total_gib']:.1f}" if bar["total_gib"] else "&ndash;"
        cells = [
            *(_cell(value) for value in (bar["host"], bar["gpu"])),
            f'<td class="w">{_text(bar["kind"])}</td>',
            _cell(engines),
            f'<td class="n">{taken:.1f} / {there}</td>',
            f"<td>{memory_bar(bar)}</td>",
        ]
        rows.append(f"<tr>{''.join(cells)}</tr>")
    return _framed(("host", "GPU", "kind", "engines", "GiB taken / there", "memory"), rows)


def _engines(report: Mapping[str, Any]) -> list[str]:
    head = (
        "instance",
        "model",
        "weights",
        "GPUs",
        "TP",
        "PP",
        "context",
        "KV tokens",
        "full requests",
    )
    keys = (
        "id",
        "architecture",
        "quantization",
        "gpus",
        "tensor_parallel_size",
        "pipeline_parallel_size",
        "max_model_len",
        "kv_cache_tokens",
        "max_concurrency",
    )
    return _rows(head, keys, report["instances"])


def _options(report: Mapping[str, Any]) -> list[str]:
    rows = []
    for one in report["instances"]:
        parts = (f'<span class="w">{escape(part)}</span>' for part in options_of(one["args"]))
        rows.append(f"<tr>{_cell(one['id'])}<td>{' '.join(parts)}</td></tr>")
    return [_framed(("instance", "options of vllm serve"), rows)] if rows else []


def _hosts(report: Mapping[str, Any]) -> list[str]:
    head = (
        "host",
        "memory GiB",
        "stated GiB",
        "models GiB",
        "disk GiB",
        "stated GiB",
        "GPUs W",
        "server W",
        "minutes to bring models",
    )
    keys = (
        "host",
        "memory_gib",
        "memory_stated_gib",
        "models_gib",
        "disk_gib",
        "disk_stated_gib",
        "gpu_power_w",
        "power_w",
        "transfer_minutes",
    )
    return _rows(head, keys, report["hosts"])


def _losses(report: Mapping[str, Any]) -> list[str]:
    return _rows(("loss", "instances"), ("what", "instances"), report["losses"])


def _recovery(report: Mapping[str, Any]) -> list[str]:
    head = ("model", "instances", "RTO in seconds", "RPO")
    return _rows(head, ("model", "instances", "rto_seconds", "rpo"), report["recovery"])


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
    head = ("alternative", "card", "servers", "GPUs", "used", "GPU W", "rack units", "GPU h/month")
    return _table(
        [*head, "cost", "fits", "why"],
        (
            (
                row["description"],
                row["gpu"],
                row["servers"],
                row["gpus"],
                row["gpus_used"],
                row["gpu_power_w"],
                row["rack_units"],
                row["gpu_hours_per_month"],
                cost_text(row["cost"]),
                row["fits"],
                row["why"],
            )
            for row in report["alternatives"]
        ),
    )


def _bom(report: Mapping[str, Any]) -> list[str]:
    hardware = (
        ("count", "for", "card", "GPUs", "memory GiB", "disk GiB", "Gbit/s", "rack units", "hosts"),
        (
            "count",
            "roles",
            "gpu",
            "gpus",
            "memory_gib",
            "disk_gib",
            "network_gbit",
            "rack_units",
            "hosts",
        ),
    )
    software = (
        ("part", "type", "for", "main components", "files", "bytes", "licence"),
        ("part", "type", "scope", "main", "components", "bytes", "licence"),
    )
    return [
        *_rows(*hardware, report["bom"]["hardware"]),
        *_rows(*software, report["bom"]["software"]),
    ]


def _rows(
    head: Sequence[str], keys: Sequence[str], entries: Iterable[Mapping[str, Any]]
) -> list[str]:
    return _table(head, ([entry[key] for key in keys] for entry in entries))
