"""A GPU's memory as a picture: one bar, one piece for each thing that takes memory."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any, Final

WIDTH: Final = 640
HEIGHT: Final = 26
COLOURS: Final = {
    "weights": "#1f4e79",
    "activations": "#b04f0e",
    "other": "#6b6b6b",
    "graphs": "#7a5d9c",
    "kv": "#4a7430",
}
"""White text on each of them has a contrast of 4.5 or more, as WCAG asks for small text."""
NAMES: Final = {"kv": "KV cache"}
FREE: Final = "#e7e6e6"
_LABEL_FROM: Final = 60
_FIGURE_FROM: Final = 130
"""Narrower pieces carry their figure, still narrower ones their name, in the tooltip only."""


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
        label = NAMES.get(part["part"], part["part"])
        if width >= _FIGURE_FROM:
            label += f" {part['gib']:.1f} GiB"
        pieces.append(_piece(at, width, COLOURS[part["part"]], name, label))
        at += width
    free = max(0.0, total - taken)
    if free:
        pieces.append(_piece(at, free * scale, FREE, f"free {free:.2f} GiB", ""))
    where = bar["host"] if bar["gpu"] is None else f"{bar['host']} GPU {bar['gpu']}"
    title = f"{where}: {taken:.1f} of {total:.1f} GiB"
    return (
        f'<svg class="bar" role="img" width="{WIDTH}" height="{HEIGHT}" '
        f'viewBox="0 0 {WIDTH} {HEIGHT}" xmlns="http://www.w3.org/2000/svg">'
        f"<title>{escape(title)}</title>{''.join(pieces)}</svg>"
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
