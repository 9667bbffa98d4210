"""Predicted against measured as a picture: an SVG that names nothing of what was measured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

_PANELS: tuple[tuple[str, str], ...] = (
    ("weights_gib_per_gpu", "weights, GiB per GPU"),
    ("available_kv_gib_per_gpu", "KV cache, GiB per GPU"),
    ("kv_cache_tokens", "KV cache, tokens"),
)


def plot(points: Sequence[tuple[str, float, float]], path: Path) -> None:
    """Draw predicted against measured, both axes logarithmic, one panel per quantity."""
    side, gap = 260, 70
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{3 * (side + gap) + 20}" '
        f'height="{side + 90}" font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
    ]
    for index, (name, label) in enumerate(_PANELS):
        pairs = [(m, p) for kind, m, p in points if kind == name and m > 0 and p > 0]
        low = math.floor(math.log10(min(min(pair) for pair in pairs)))
        high = math.ceil(math.log10(max(max(pair) for pair in pairs)))
        left, top = gap - 10 + index * (side + gap), 40

        def place(value: float, low: int = low, high: int = high) -> float:
            return (math.log10(value) - low) / (high - low) * side

        parts.append(
            f'<rect x="{left}" y="{top}" width="{side}" height="{side}" fill="none" stroke="#888"/>'
            f'<line x1="{left}" y1="{top + side}" x2="{left + side}" y2="{top}" stroke="#bbb"/>'
            f'<text x="{left}" y="{top - 14}" font-weight="bold">{label} (n {len(pairs)})</text>'
            f'<text x="{left + side / 2}" y="{top + side + 36}" text-anchor="middle">'
            "measured</text>"
            f'<text transform="translate({left - 42} {top + side / 2}) rotate(-90)" '
            f'text-anchor="middle">predicted</text>'
        )
        for power in range(low, high + 1):
            at = place(10.0**power)
            parts.append(
                f'<text x="{left + at}" y="{top + side + 16}" text-anchor="middle">1e{power}</text>'
                f'<text x="{left - 6}" y="{top + side - at + 4}" text-anchor="end">1e{power}</text>'
            )
        parts += [
            f'<circle cx="{left + place(m):.1f}" cy="{top + side - place(p):.1f}" r="3" '
            f'fill="#1f6feb" fill-opacity="0.55"/>'
            for m, p in pairs
        ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([*parts, "</svg>", ""]))
