"""A GPU's memory as a picture: one bar, one piece for each thing that takes memory."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any, Final

WIDTH: Final = 640
HEIGHT: Final = 26
COLOURS: Final = {
    "weights": "#1f4e79",
    "activations": "#c55a11",
    "other": "#7f7f7f",
    "graphs": "#8064a2",
    "kv": "#548235",
}
FREE: Final = "#e7e6e6"
_LABEL_FROM: Final = 60
"""Narrower pieces carry their name in the tooltip only."""


def memory_bar(bar: Mapping[str, Any]) -> str:
    """Return an SVG element; its pieces never leave the bar, even when they ask for too much."""
    taken = sum(part["gib"] for part in bar["parts"])
    total = bar["total_gib"] or taken or 1.0
    scale = WIDTH / max(total, taken)
    pieces: list[str] = []
    at = 0.0
    for part in bar["parts"]:
        width = part["gib"] * scale
        name = f"{part['instance']}: {part['part']} {part['gib']:.2f} GiB"
        pieces.append(_piece(at, width, COLOURS[part["part"]], name, part["part"]))
        at += width
    free = max(0.0, total - taken)
    if free:
        pieces.append(_piece(at, free * scale, FREE, f"free {free:.2f} GiB", ""))
    where = bar["host"] if bar["gpu"] is None else f"{bar['host']} GPU {bar['gpu']}"
    title = f"{where}: {taken:.1f} of {total:.1f} GiB"
    return (
        f'<svg role="img" width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'xmlns="http://www.w3.org/2000/svg"><title>{escape(title)}</title>{"".join(pieces)}</svg>'
    )


def _piece(at: float, width: float, colour: str, name: str, label: str) -> str:
    text = ""
    if label and width >= _LABEL_FROM:
        text = (
            f'<text x="{at + width / 2:.1f}" y="{HEIGHT / 2 + 4:.1f}" fill="#ffffff" '
            f'font-size="11" font-family="sans-serif" text-anchor="middle">{escape(label)}</text>'
        )
    return (
        f'<g><title>{escape(name)}</title><rect x="{at:.1f}" y="0" width="{width:.1f}" '
        f'height="{HEIGHT}" fill="{colour}"/>{text}</g>'
    )
