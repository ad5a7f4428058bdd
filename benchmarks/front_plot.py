"""A plot of accuracy over latency as an SVG file that needs no library."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

Points = Sequence[tuple[float, float]]
"""Latency in ms and accuracy, 0 to 1."""

WIDTH, HEIGHT = 720, 440
LEFT, RIGHT, TOP, BOTTOM = 60, 20, 20, 50
"""Sizes of the picture and its margins, in pixels."""
COLORS = ("#5b5bd6", "#12a594", "#e5484d", "#e08c1a", "#6e7781", "#b45309", "#9333ea")


def svg(fronts: Mapping[str, Points], models: Mapping[str, Points]) -> str:
    """The plot, with latency on a logarithmic axis.

    Args:
        fronts: points by name, joined by steps.
        models: points by name, joined by dashed lines.
    """
    series = {**fronts, **models}
    points = [point for values in series.values() for point in values]
    latencies, accuracies = zip(*points, strict=True)
    low, high = math.log10(min(latencies)) - 0.05, math.log10(max(latencies)) + 0.05
    bottom, top = math.floor(100 * min(accuracies)), math.ceil(100 * max(accuracies))

    def place(latency_ms: float, accuracy: float) -> tuple[float, float]:
        across = (math.log10(latency_ms) - low) / (high - low)
        up = (100 * accuracy - bottom) / max(1, top - bottom)
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        f'font-size="12"><rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>'
    ]
    for percent in range(bottom, top + 1):
        _, y = place(10**low, percent / 100)
        parts.append(_line([(LEFT, y), (WIDTH - RIGHT, y)], "#e5e7eb", ""))
        parts.append(_text(LEFT - 8, y + 4, f"{percent} %", "end"))
    for latency_ms in _ticks(low, high):
        x, _ = place(latency_ms, bottom / 100)
        parts.append(_text(x, HEIGHT - BOTTOM + 18, f"{latency_ms:g}", "middle"))
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 10, "latency, ms", "middle"))
    for i, (name, values) in enumerate(series.items()):
        color, placed = COLORS[i % len(COLORS)], [place(*point) for point in sorted(values)]
        joined, dash = (_steps(placed), "") if name in fronts else (placed, "4 4")
        parts.append(_line(joined, color, dash))
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{color}"/>' for x, y in placed]
        y = HEIGHT - BOTTOM - 16 * (len(series) - i)
        parts.append(f'<circle cx="{WIDTH - 170}" cy="{y - 4}" r="4" fill="{color}"/>')
        parts.append(_text(WIDTH - 160, y, name, "start"))
    return "\n".join([*parts, "</svg>\n"])


def _ticks(low: float, high: float) -> list[float]:
    decades = range(math.floor(low), math.ceil(high) + 1)
    values = [factor * 10.0**decade for decade in decades for factor in (1, 2, 5)]
    return [value for value in values if low <= math.log10(value) <= high]


def _steps(placed: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    corners = []
    for (x, y), following in zip(placed, [*placed[1:], None], strict=True):
        corners.append((x, y))
        if following:
            corners.append((following[0], y))
    return corners


def _line(points: Sequence[tuple[float, float]], color: str, dash: str) -> str:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dashes = f' stroke-dasharray="{dash}"' if dash else ""
    return f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="1.5"{dashes}/>'


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="#374151">{escape(text)}</text>'
