"""The plots of a bank's statistics: laid out once as numbers, drawn by Pillow as PNG and by the page's template.

Neither draws more than bars and points, so this is no chart library; Matplotlib would be 30 MB for it, and the curves
of a training run (`train.chart`) are something else.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..selection.relevance import Floats
from .likeness import Likeness
from .stats import Ints, Stats

MOST, FEWEST = 40, 20
"""Actions that Figure 5 names."""
COLORS = ("#1f6feb", "#b4560f", "#1a7f37", "#8250df", "#bf3989", "#57606a", "#9a6700", "#0a7ea4")
_INK, _SOFT, _RULE = "#1d2126", "#626a73", "#e1e4e8"
_SCALE = 2  # pixels per unit of the layout
WIDTH = 720
_ROW, _TITLE, _LABEL, _VALUE, _MARGIN = 22, 40, 240, 80, 16
SQUARE = 480


@dataclass(frozen=True, slots=True)
class Bars:
    """Bars to the right, one per row."""

    name: str
    """Of the file."""
    title: str
    rows: list[tuple[str, int]]

    @property
    def top(self) -> int:
        """The largest value, at least 1."""
        return max([1, *(value for _, value in self.rows)])


@dataclass(frozen=True, slots=True)
class Group:
    """The points of one action, in [0, SQUARE] from the upper left corner."""

    name: str
    color: str
    points: list[tuple[float, float]]
    center: tuple[float, float]
    cross: tuple[float, float] | None
    """Of its name."""


@dataclass(frozen=True, slots=True)
class Scatter:
    """Points in a square."""

    name: str
    title: str
    groups: list[Group]


def bars_of(stats: Stats) -> list[Bars]:
    """ActionHub's Figures 4 and 5."""
    return [
        Bars("descriptions-per-action", "Actions by their number of descriptions", _bins(stats.descriptions_A)),
        Bars("sentences-per-action", "Actions by their number of sentences", _bins(stats.sentences_A)),
        Bars("most-described", "Actions with the most descriptions", stats.ranked(True, MOST)),
        Bars("least-described", "Actions with the fewest descriptions", stats.ranked(False, FEWEST)),
    ]


def _bins(counts: Ints) -> list[tuple[str, int]]:
    """How many values are 0, 1 to 9, 10 to 29, 30 to 99, … up to the largest."""
    edges = [0, 1, *(step * 10**power for power in range(1, 19) for step in (1, 3))]
    places = np.searchsorted(edges, counts, side="right") - 1
    rows = np.bincount(places, minlength=1)
    first = int(np.flatnonzero(rows)[0]) if rows.any() else 0
    labels = ["0", *(f"{low:,} to {high - 1:,}" for low, high in pairwise(edges[1:]))]
    return [(labels[place], int(rows[place])) for place in range(first, len(rows))]


def scatter_of(likeness: Likeness) -> Scatter:
    """ActionHub's Figure 6, above."""
    clouds = likeness.clouds
    extra = [cloud.name_2[None] for cloud in clouds if cloud.name_2 is not None]
    every = np.concatenate([*(cloud.texts_N2 for cloud in clouds), *extra])
    low, span = every.min(0), max(float(np.ptp(every, axis=0).max()), 1e-9)

    def place(point: Floats) -> tuple[float, float]:
        x, y = ((point - low) / span * (SQUARE - 2 * _MARGIN) + _MARGIN).tolist()
        return round(x, 1), round(SQUARE - y, 1)

    groups = []
    for number, cloud in enumerate(clouds):
        cross = None if cloud.name_2 is None else place(cloud.name_2)
        points = [place(point) for point in cloud.texts_N2]
        groups.append(Group(cloud.name, COLORS[number % len(COLORS)], points, place(cloud.center_2), cross))
    title = "Word vectors of names (crosses), descriptions (dots) and their centres (large)"
    return Scatter("word-vectors", title, groups)


def bars_png(bars: Bars) -> bytes:
    """The bars as a PNG file; what is outside of the built-in font (Latin) shows as boxes."""
    height = _TITLE + _ROW * len(bars.rows) + _MARGIN
    picture, draw = _canvas(WIDTH, height, bars.title)
    room = WIDTH - _LABEL - _VALUE - 2 * _MARGIN
    for number, (label, value) in enumerate(bars.rows):
        y, x = _TITLE + _ROW * number, _MARGIN + _LABEL
        _text(draw, x - 8, y + _ROW / 2, _short(label, 34), "rm", _INK)
        length = room * value / bars.top
        _box(draw, (x, y + 4, x + max(length, 1 if value else 0), y + _ROW - 4), COLORS[0])
        _text(draw, x + length + 8, y + _ROW / 2, f"{value:,}", "lm", _SOFT)
    return _png(picture)


def scatter_png(scatter: Scatter) -> bytes:
    """The points as a PNG file."""
    height = _TITLE + SQUARE + _ROW * len(scatter.groups) + _MARGIN
    picture, draw = _canvas(SQUARE + 2 * _MARGIN, height, scatter.title)

    def at(point: tuple[float, float]) -> tuple[float, float]:
        return point[0] + _MARGIN, point[1] + _TITLE

    _box(draw, (_MARGIN, _TITLE, _MARGIN + SQUARE, _TITLE + SQUARE), None)
    for group in scatter.groups:
        for point in group.points:
            _disc(draw, at(point), 2, group.color)
    for number, group in enumerate(scatter.groups):
        x, y = at(group.center)
        _disc(draw, (x, y), 7, "white")
        _disc(draw, (x, y), 5, group.color)
        if group.cross is not None:
            x, y = at(group.cross)
            for slope in (-1, 1):
                ends = [(_SCALE * (x + d), _SCALE * (y + slope * d)) for d in (-6, 6)]
                draw.line(ends, fill=group.color, width=3 * _SCALE)
        y = _TITLE + SQUARE + _ROW * (number + 0.75)
        _disc(draw, (_MARGIN + 6, y), 5, group.color)
        _text(draw, _MARGIN + 20, y, _short(group.name, 60), "lm", _INK)
    return _png(picture)


def _canvas(width: int, height: int, title: str) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    picture = Image.new("RGB", (_SCALE * width, _SCALE * height), "white")
    draw = ImageDraw.Draw(picture)
    _text(draw, _MARGIN, _TITLE / 2, title, "lm", _INK, size=13)
    return picture, draw


def _text(draw: ImageDraw.ImageDraw, x: float, y: float, text: str, anchor: str, color: str, *, size: int = 12) -> None:
    font = ImageFont.load_default(_SCALE * size)
    draw.text((_SCALE * x, _SCALE * y), text, fill=color, font=font, anchor=anchor)


def _box(draw: ImageDraw.ImageDraw, corners: Sequence[float], color: str | None) -> None:
    left, top, right, bottom = (round(_SCALE * each) for each in corners)
    if right > left:
        draw.rectangle((left, top, right - 1, bottom - 1), fill=color, outline=_RULE if color is None else None)


def _disc(draw: ImageDraw.ImageDraw, center: tuple[float, float], radius: float, color: str) -> None:
    x, y, r = (_SCALE * each for each in (*center, radius))
    draw.ellipse((x - r, y - r, x + r, y + r), fill=color)


def _short(text: str, most: int) -> str:
    line = " ".join(text.split())
    return line if len(line) <= most else line[: most - 1] + "…"


def _png(picture: Image.Image) -> bytes:
    sink = io.BytesIO()
    picture.save(sink, "PNG", optimize=True)
    return sink.getvalue()
