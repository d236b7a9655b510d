"""Clips are sorted, do not overlap, respect their lengths, and cover all that is not left out."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reelmill.engine.config import IngestConfig
from reelmill.engine.cut import MAX_CLIPS, spans_of, stretch_of
from reelmill.engine.errors import MediaError
from reelmill.engine.sources import InputRow

CONFIG = IngestConfig(input=Path("in"), out=Path("out"))
TICK = 2e-6


def cut(seconds, span=(None, None), cuts=(), **options):
    row = InputRow("a", "/a.mp4", "a.mp4", start_seconds=span[0], end_seconds=span[1])
    facts = {"duration_seconds": seconds, "scene_cuts": list(cuts)}
    return spans_of(row, facts, replace(CONFIG, **options))


def test_nothing_asked_leaves_the_span_as_it_is_listed():
    assert cut(4.0) == [(None, None)]
    assert cut(4.0, (1.0, 9.0)) == [(1.0, 9.0)]


@pytest.mark.parametrize(
    ("seconds", "options", "want"),
    [
        (4.0, {"clip_seconds": 1.5}, [(0, 1.5), (1.5, 3), (3, 4)]),
        (4.0, {"clip_seconds": 2.0}, [(0, 2), (2, 4)]),
        (4.0, {"clip_seconds": 9.0}, [(0, 4)]),
        (4.0, {"clip_seconds": 1.5, "min_clip_seconds": 1.2}, [(0, 1.5), (1.5, 3)]),
        (0.3, {"clip_seconds": 0.1, "min_clip_seconds": 0.1}, [(0, 0.1), (0.1, 0.2), (0.2, 0.3)]),
        (4.0, {"min_clip_seconds": 4.5}, []),
        (4.0, {"max_clip_seconds": 1.5}, [(0, 1.333333), (1.333333, 2.666667), (2.666667, 4)]),
        (6.0, {"max_clip_seconds": 5.0, "min_clip_seconds": 4.0}, [(0, 5)]),  # halves would be too short
        (0.0, {"clip_seconds": 1.0}, []),
    ],
)
def test_fixed_lengths(seconds, options, want):
    assert cut(seconds, **options) == want


def test_scenes():
    assert cut(9.0, scenes=True) == [(0, 9)]
    assert cut(9.0, cuts=[2.5, 7.0], scenes=True) == [(0, 2.5), (2.5, 7), (7, 9)]
    assert cut(9.0, cuts=[2.5, 7.0], scenes=True, min_clip_seconds=2.2) == [(0, 2.5), (2.5, 7)]
    assert cut(9.0, cuts=[2.5], scenes=True, max_clip_seconds=4.0) == [(0, 2.5), (2.5, 5.75), (5.75, 9)]


def test_a_listed_span_is_cut_within_its_bounds():
    assert cut(4.0, (1.0, 3.0), clip_seconds=1.5) == [(1, 2.5), (2.5, 3)]
    assert cut(4.0, (1.0, 9.0), cuts=[0.5, 2.0], scenes=True) == [(1, 2), (2, 4)]
    assert cut(9.0, (1.0, 7.0), max_clip_seconds=3.0) == [(1, 4), (4, 7)]
    assert cut(9.0, (1.0, 2.0), min_clip_seconds=1.5) == []


def test_a_header_that_promises_for_ever_is_not_believed():
    message = f"limit: 90000000000 s would be more than {MAX_CLIPS} clips of 10.0 s"
    for option in ("clip_seconds", "max_clip_seconds"):
        with pytest.raises(MediaError, match=message):
            cut(9e10, **{option: 10.0})


seconds = st.floats(0.01, 500, allow_nan=False)


@st.composite
def cases(draw):
    duration = draw(seconds)
    start = draw(st.none() | st.floats(0, duration * 0.9))
    end = draw(st.none() | st.floats((start or 0) + 0.001, 600))
    longest = draw(st.none() | st.floats(0.5, 50))
    clip = draw(st.none() | st.floats(0.5, 50)) if longest is None else None
    least = draw(st.floats(0, 1)) * (clip or longest or 20)
    scenes = draw(st.booleans()) and clip is None
    cuts = sorted(draw(st.sets(st.integers(1, 10**8), max_size=9))) if scenes else []
    options = {
        "clip_seconds": clip,
        "max_clip_seconds": longest,
        "min_clip_seconds": least,
        "scenes": scenes,
    }
    return duration, (start, end), [cut / 1e6 for cut in cuts], options


@given(cases())
def test_clips_are_sorted_apart_and_as_long_as_asked(case):
    duration, span, cuts, options = case
    clips = cut(duration, span, cuts, **options)
    if not any(options.values()):
        assert clips == [span]
        return
    begin, end = stretch_of(span, {"duration_seconds": duration})
    assert all(begin <= a < b <= end for a, b in clips)
    assert all(one[1] <= other[0] for one, other in pairwise(clips))
    longest = options["clip_seconds"] or options["max_clip_seconds"] or duration
    assert all(options["min_clip_seconds"] - TICK <= b - a <= longest + TICK for a, b in clips)
    if options["scenes"]:
        assert not any(a + TICK < moment < b - TICK for a, b in clips for moment in cuts)


@given(cases())
def test_only_what_is_too_short_is_left_out(case):
    duration, span, cuts, options = case
    clips = cut(duration, span, cuts, **options)
    if not any(options.values()):
        return
    begin, end = stretch_of(span, {"duration_seconds": duration})
    bounds = [begin, *(bound for clip in clips for bound in clip), end]
    gaps = [(a, b) for a, b in zip(bounds[::2], bounds[1::2], strict=True) if b > a]
    least, longest = options["min_clip_seconds"], options["max_clip_seconds"]
    for a, b in gaps:
        inner = [a, *(moment for moment in cuts if a < moment < b), b]
        assert all(right - left <= max(least, TICK) + TICK for left, right in pairwise(inner))
    if not least:
        assert not gaps
    if longest is not None and not options["scenes"] and end - begin >= max(least, TICK):
        assert clips
