"""The approvers' report: what a waiting bundle changes, as text for a terminal and as HTML.

Both say the same. Nothing in the HTML is loaded from elsewhere and nothing runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from .difference import Change, Difference, ModelChange, PartChange
from .gates import NOTE, RED, REFUSE

_SHOWN = 60  # changes of one part, and notes of the gates, in the text; the HTML has all
_MARKS = {RED: "RED", NOTE: "note"}  # whatever else a gate says refuses
_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")
_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
table{border-collapse:collapse;width:100%;margin:.5rem 0 1.5rem}
th,td{text-align:left;padding:.25rem .6rem;border-bottom:1px solid #ddd;overflow-wrap:anywhere}
th{background:#f4f4f4}.red{color:#a40000;font-weight:600}.new{color:#00602b}
pre{background:#f7f7f7;padding:.8rem;overflow:auto}code{font-size:.9em}
summary{cursor:pointer;margin:.4rem 0}
"""


def size(count: int) -> str:
    """Return bytes for people, for example ``1.5 GiB``."""
    value, unit = float(count), _UNITS[0]
    for unit in _UNITS:
        if value < 1024 or unit == _UNITS[-1]:
            break
        value /= 1024
    return f"{value:.0f} {unit}" if unit == "bytes" else f"{value:.1f} {unit}"


def as_text(difference: Difference) -> str:
    """Return the report for a terminal."""
    lines = [*_head(difference), ""]
    for warning in _warnings(difference):
        lines.append(f"!! {warning}")
    notes = [item for item in difference.verdicts if item.severity == NOTE]
    for verdict in difference.verdicts:
        if verdict.severity != NOTE or verdict in notes[:_SHOWN]:
            mark = _MARKS.get(verdict.severity, "REFUSED")
            text = f"{mark}: {verdict.rule}: {verdict.thing}: {verdict.seen} {verdict.action}"
            lines.append(text.rstrip())
    if len(notes) > _SHOWN:
        lines.append(f"note: ... and {len(notes) - _SHOWN} more (the HTML report has all)")
    if not difference.parts and not difference.models:
        lines.append("No content differs from the running release.")
    for part in difference.parts:
        lines += ["", f"{part.name} ({part.type}): {_sizes(part)}"]
        lines += [f"  {_words(change)}" for change in part.changes[:_SHOWN]]
        if len(part.changes) > _SHOWN:
            lines.append(f"  ... and {len(part.changes) - _SHOWN} more (the HTML report has all)")
    for model in difference.models:
        lines += ["", f"model {model.name}"]
        lines += [f"  {_words(change)}" for change in model.changes]
        lines += [f"  | {line}" for line in model.template_diff]
    if difference.new_licences:
        lines += ["", f"licences not in the running release: {', '.join(difference.new_licences)}"]
    return "\n".join(lines) + "\n"


def as_html(difference: Difference) -> str:
    """Return the report as one self-contained page."""
    title = escape(f"{_kind(difference)} {difference.id}")
    rows = "".join(f"<p>{escape(line)}</p>" for line in _head(difference)[1:])
    body = [f"<h1>{title}</h1>", rows]
    body += [f'<p class="red">{escape(text)}</p>' for text in _warnings(difference)]
    if difference.verdicts:
        body.append("<h2>What the gates said</h2>")
        body.append(
            _table(
                ("", "rule", "about", "seen", "what to do"),
                (
                    (item.severity, item.rule, item.thing, item.seen, item.action)
                    for item in difference.verdicts
                ),
                red={RED, REFUSE},
            )
        )
    body.append("<h2>What changes</h2>")
    if not difference.parts and not difference.models:
        body.append("<p>No content differs from the running release.</p>")
    for part in difference.parts:
        changes = (_cells(change) for change in part.changes)
        body.append(
            f"<details{' open' if len(part.changes) <= _SHOWN else ''}><summary>"
            f"<b>{escape(part.name)}</b> ({escape(part.type)}): {escape(_sizes(part))}, "
            f"{len(part.changes)} change(s)</summary>"
            f"{_table(('what', 'running', 'waiting'), changes)}</details>"
        )
    body += [_model_html(model) for model in difference.models]
    if difference.new_licences:
        body.append("<h2>Licences not in the running release</h2>")
        body.append(f"<p>{escape(', '.join(difference.new_licences))}</p>")
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "style-src 'unsafe-inline'\">"
        f"<title>{title}</title><style>{_STYLE}</style></head>\n<body>{''.join(body)}</body></html>\n"
    )


def _head(difference: Difference) -> list[str]:
    against = f"It would replace: {difference.running or 'nothing: this is the first release'}."
    if difference.advisory:
        against = f"About {difference.running}, which goes on running: these are news, no software."
    return [
        f"{_kind(difference)} {difference.id} (serial {difference.serial}): two approvals wanted.",
        against,
        f"Made {difference.created}, ends {difference.expires}; "
        f"released by {', '.join(difference.released_by) or 'unknown'}.",
        f"{size(difference.total_bytes)} in all, {size(difference.new_bytes)} of it new here.",
        f"You sign: sha256:{difference.bundle_sha256}",
    ]


def _kind(difference: Difference) -> str:
    return "Advisories" if difference.advisory else "Release"


def _warnings(difference: Difference) -> Iterator[str]:
    if difference.single_key:
        yield "One key alone could have released this bundle: it is for a lab, not for production."
    for model in difference.models:
        if model.template_diff:
            yield (
                f"The prompt template of {model.name} is different. It becomes part of every "
                "conversation and no scanner can judge it: read the lines below."
            )


def _sizes(part: PartChange) -> str:
    if not part.before_bytes:
        return f"new, {size(part.after_bytes)}"
    if not part.after_bytes:
        return f"goes away, {size(part.before_bytes)}"
    return f"{size(part.before_bytes)} -> {size(part.after_bytes)}"


def _words(change: Change) -> str:
    if not change.before:
        return f"+ {change.name} {change.after}"
    if not change.after:
        return f"- {change.name} {change.before}"
    return f"~ {change.name} {change.before} -> {change.after}"


def _cells(change: Change) -> tuple[str, str, str]:
    return change.name, change.before or "(absent)", change.after or "(absent)"


def _model_html(model: ModelChange) -> str:
    table = _table(("what", "running", "waiting"), (_cells(change) for change in model.changes))
    diff = escape("\n".join(model.template_diff))
    lines = f"<p>Prompt template:</p><pre>{diff}</pre>" if diff else ""
    return f"<h2>Model {escape(model.name)}</h2>{table}{lines}"


def _table(
    head: tuple[str, ...], rows: Iterator[tuple[str, ...]], red: set[str] | None = None
) -> str:
    cells = "".join(f"<th>{escape(text)}</th>" for text in head)
    body = "".join(
        f"<tr{' class=red' if red and row[0] in red else ''}>"
        + "".join(f"<td>{escape(text)}</td>" for text in row)
        + "</tr>"
        for row in rows
    )
    return f"<table><tr>{cells}</tr>{body}</table>"
