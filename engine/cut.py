"""Which spans of a video become clips. Pure arithmetic."""

from collections.abc import Mapping
from typing import Any

from .config import IngestConfig
from .sources import InputRow

Span = tuple[float | None, float | None]
"""Start and end in seconds, end exclusive; (None, None) is the whole video."""


def spans_of(row: InputRow, facts: Mapping[str, Any], config: IngestConfig) -> list[Span]:
    """The clips of an input, in time order.

    A listed span stays one clip. Fixed spans of `clip_seconds` cover the video (or the listed span) from its start; the
    rest at the end is a clip when it is at least `min_clip_seconds` long.
    """
    start, end = row.start_seconds, row.end_seconds
    if config.clip_seconds is None:
        return [(start, end)]
    begin = start or 0.0
    last = facts["duration_seconds"] if end is None else min(end, facts["duration_seconds"])
    length, spans = config.clip_seconds, list[Span]()
    for number in range(int((last - begin) / length) + 1):
        # each bound from the number: sums of fractions would drift
        left, right = round(begin + number * length, 6), min(round(begin + (number + 1) * length, 6), last)
        if right - left >= config.min_clip_seconds and right > left:
            spans.append((left, right))
    return spans
