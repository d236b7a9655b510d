"""Which spans of a video become clips. Pure arithmetic.

All times are seconds after the video's first frame.

1. A stretch is the listed span as far as the video goes, or the whole video. Where no option cuts or sorts out, it is
   the clip, as it is listed.
2. `clip_seconds` cuts it into clips of that length from its start, the last one shorter; `scenes` cuts it where
   `SceneDetector` found a new scene.
3. `max_clip_seconds` cuts what is longer into the fewest equal clips that are short enough. Where those would be
   shorter than `min_clip_seconds`, clips of `max_clip_seconds` are taken from the start instead.
4. What is shorter than `min_clip_seconds` is left out. Nothing else is: the others cover the stretch, and none overlap.
"""

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from .config import IngestConfig
from .errors import MediaError
from .sources import InputRow

Span = tuple[float | None, float | None]
"""Start and end in seconds, end exclusive; None where nobody said: the video's own."""

MAX_CLIPS = 1 << 20
"""Clips of one video: 12 days in seconds."""
TICK = 1e-6  # times are kept to microseconds; a length that misses a bound by less holds it


def spans_of(row: InputRow, facts: Mapping[str, Any], config: IngestConfig) -> list[Span]:
    """The clips of an input, in time order.

    Args:
        row: the input.
        facts: what `look` found: `duration_seconds`, and `scene_cuts` where scenes are wanted.
        config: the job's options.

    Raises:
        MediaError: "limit", there would be more than MAX_CLIPS: the header lies about the length.
    """
    lengths = config.clip_seconds, config.max_clip_seconds
    if lengths == (None, None) and not config.scenes and not config.min_clip_seconds:
        return [(row.start_seconds, row.end_seconds)]
    begin, end = stretch_of((row.start_seconds, row.end_seconds), facts)
    shortest = min((length for length in lengths if length is not None), default=math.inf)
    if (end - begin) / shortest > MAX_CLIPS:
        raise MediaError("limit", f"{end - begin:.0f} s would be more than {MAX_CLIPS} clips of {shortest} s")
    bounds = [begin, end]
    if config.clip_seconds is not None:
        bounds = _steps(begin, end, config.clip_seconds)
    elif config.scenes:
        bounds = [begin, *(cut for cut in facts["scene_cuts"] if begin < cut < end), end]
    if config.max_clip_seconds is not None:
        longest, least = config.max_clip_seconds, config.min_clip_seconds
        bounds = [begin] + [b for pair in pairwise(bounds) for b in _short_enough(*pair, longest, least)[1:]]
    return [(a, b) for a, b in pairwise(bounds) if b > a and b - a > config.min_clip_seconds - TICK]


def stretch_of(span: Span, facts: Mapping[str, Any]) -> tuple[float, float]:
    """Where a span starts and ends in the video."""
    duration = float(facts["duration_seconds"])
    begin = max(0.0, span[0] or 0.0)
    return begin, duration if span[1] is None else min(span[1], duration)


def _steps(begin: float, end: float, length: float) -> list[float]:
    """Bounds of clips of one length from `begin` on, and of the rest."""
    most = math.ceil((end - begin) / length)
    inner = (round(begin + number * length, 6) for number in range(1, most + 1))  # sums of fractions would drift
    return [begin, *(bound for bound in inner if bound < end - TICK), end]


def _short_enough(begin: float, end: float, longest: float, least: float) -> list[float]:
    """Bounds of clips of at most `longest` seconds."""
    pieces = max(1, math.ceil((end - begin - TICK) / longest))
    if pieces > 1 and (end - begin) / pieces < least - TICK:
        return _steps(begin, end, longest)
    return [begin, *(round(begin + number * (end - begin) / pieces, 6) for number in range(1, pieces)), end]
