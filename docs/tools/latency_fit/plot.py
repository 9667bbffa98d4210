"""Draw predicted against measured as an SVG picture, without any library."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from .report import Prediction

SIZE, LEFT, TOP = 420, 70, 40
COLOURS = ("#1b6ca8", "#c8553d", "#588b4c", "#8a5fa8", "#b8860b", "#4a4a4a")


def picture(predictions: Sequence[Prediction]) -> str:
    """Return two panels on logarithmic axes: times in ms, and tokens a second."""
    times = [one for one in predictions if one.case.measure != "output_tok_s_total"]
    rates = [one for one in predictions if one.case.measure == "output_tok_s_total"]
    width, height = 2 * (SIZE + LEFT) + 40, SIZE + TOP + 110
    kinds = sorted({one.case.kind for one in predictions})
    colour = {kind: COLOURS[index % len(COLOURS)] for index, kind in enumerate(kinds)}
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        *_panel(times, LEFT, "time, ms", 1000.0, colour),
        *_panel(rates, 2 * LEFT + SIZE + 30, "output tokens a second", 1.0, colour),
    ]
    for index, kind in enumerate(kinds):
        x, y = LEFT + (index % 3) * 300, TOP + SIZE + 65 + (index // 3) * 20
        parts.append(f'<circle cx="{x}" cy="{y - 4}" r="4" fill="{colour[kind]}"/>')
        parts.append(f'<text x="{x + 10}" y="{y}">{escape(kind)}</text>')
    parts.append("</svg>\n")
    return "\n".join(parts)


def _panel(
    found: Sequence[Prediction], left: int, unit: str, scale: float, colour: dict[str, str]
) -> list[str]:
    values = [value * scale for one in found for value in (one.case.measured, one.predicted)]
    low = math.floor(math.log10(min(values)))
    high = math.ceil(math.log10(max(values)))
    bottom = TOP + SIZE

    def across(value: float) -> float:
        return left + SIZE * (math.log10(value * scale) - low) / (high - low)

    def down(value: float) -> float:
        return bottom - SIZE * (math.log10(value * scale) - low) / (high - low)

    parts = [
        f'<rect x="{left}" y="{TOP}" width="{SIZE}" height="{SIZE}" fill="none" stroke="#999"/>'
    ]
    for power in range(low, high + 1):
        offset = SIZE * (power - low) / (high - low)
        label = f"{10**power:g}"
        parts += [
            f'<line x1="{left + offset:.1f}" y1="{TOP}" x2="{left + offset:.1f}" y2="{bottom}" '
            'stroke="#eee"/>',
            f'<line x1="{left}" y1="{bottom - offset:.1f}" x2="{left + SIZE}" '
            f'y2="{bottom - offset:.1f}" stroke="#eee"/>',
            f'<text x="{left + offset:.1f}" y="{bottom + 16}" text-anchor="middle">{label}</text>',
            f'<text x="{left - 6}" y="{bottom - offset + 4:.1f}" text-anchor="end">{label}</text>',
        ]
    step = SIZE * math.log10(1.4) / (high - low)
    parts.append(f'<line x1="{left}" y1="{bottom}" x2="{left + SIZE}" y2="{TOP}" stroke="#444"/>')
    for shift in (step, -step):
        x1, x2 = left + max(0.0, -shift), left + SIZE - max(0.0, shift)
        y1, y2 = bottom - max(0.0, shift), TOP + max(0.0, -shift)
        parts.append(
            f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="#bbb" '
            'stroke-dasharray="4 3"/>'
        )
    parts += [
        f'<circle cx="{across(one.case.measured):.1f}" cy="{down(one.predicted):.1f}" r="2.6" '
        f'fill="{colour[one.case.kind]}" fill-opacity="0.65"/>'
        for one in found
    ]
    middle = left + SIZE / 2
    parts.append(
        f'<text x="{middle}" y="{bottom + 36}" text-anchor="middle">measured: {unit}</text>'
    )
    parts.append(f'<text x="{middle}" y="{TOP - 12}" text-anchor="middle">predicted: {unit}</text>')
    return parts
