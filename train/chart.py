"""A line chart as numbers: the page's template draws them, so every text is escaped there."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 640, 220
LEFT, RIGHT, TOP, BOTTOM = 56, 12, 12, 28
Points = Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Line:
    """One curve in the chart's pixels."""

    name: str
    points: str
    """x,y pairs of an SVG polyline."""
    last: str
    """The last value, written out."""
    end: tuple[float, float]
    """Where the curve ends, pixels."""


@dataclass(frozen=True, slots=True)
class Chart:
    """Curves over the training steps, with their axes."""

    title: str
    lines: list[Line]
    x_ticks: list[tuple[float, str]]
    """Place in pixels, and label."""
    y_ticks: list[tuple[float, str]]


def draw(title: str, curves: Mapping[str, Points], *, percent: bool = False) -> Chart:
    """Lay out curves of (step, value) on common axes that begin at zero or at the smallest value.

    Args:
        title: what is drawn.
        curves: by name; at least one point in all.
        percent: values are shares, written as percent.
    """
    points = [point for curve in curves.values() for point in curve]
    x_ticks = nice_ticks(0, max(x for x, _ in points))
    y_ticks = nice_ticks(min(0.0, *(y for _, y in points)), max(y for _, y in points))

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - x_ticks[0]) / (x_ticks[-1] - x_ticks[0])
        down = (y_ticks[-1] - y) / (y_ticks[-1] - y_ticks[0])
        return round(LEFT + across * (WIDTH - LEFT - RIGHT), 1), round(TOP + down * (HEIGHT - TOP - BOTTOM), 1)

    def written(y: float) -> str:
        return f"{100 * y:.3g}%" if percent else f"{y:.4g}"

    lines = []
    for name, curve in curves.items():
        if curve:
            pixels = [place(x, y) for x, y in curve]
            lines.append(Line(name, " ".join(f"{x},{y}" for x, y in pixels), written(curve[-1][1]), pixels[-1]))
    return Chart(
        title,
        lines,
        [(place(x, y_ticks[0])[0], f"{x:.4g}") for x in x_ticks],
        [(place(x_ticks[0], y)[1], written(y)) for y in y_ticks],
    )


def nice_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """About `count` round numbers that enclose [low, high]: multiples of 1, 2 or 5 times a power of ten."""
    span = max(high - low, abs(high) * 1e-6, 1e-9)
    power = 10.0 ** math.floor(math.log10(span / count))
    step = next(factor * power for factor in (1, 2, 5, 10) if span / (factor * power) <= count)
    first = math.floor(low / step)
    last = max(math.ceil(high / step), first + 1)
    return [round(index * step, 12) for index in range(first, last + 1)]
