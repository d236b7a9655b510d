"""Hard cuts are found; pans, shakes, knocks, flashes and fades are none."""

import tracemalloc
from fractions import Fraction

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reelmill.engine.media.scenes import WINDOW, SceneDetector

RATE = 25
HEIGHT, WIDTH = 72, 96


def texture(seed: int) -> np.ndarray:
    """(400, 600, 3) float: soft patches over finer ones, of a colour of its own."""
    rng = np.random.default_rng(seed)
    total = np.zeros((400, 600, 3), np.float32)
    for cell, weight in ((60, 0.7), (15, 0.3)):
        small = rng.integers(0, 256, (400 // cell + 1, 600 // cell + 1, 3), dtype=np.uint8)
        large = av.VideoFrame.from_ndarray(small, format="rgb24").reformat(600, 400, interpolation="BICUBIC")
        total += weight * large.to_ndarray(format="rgb24")
    return np.clip(total * rng.uniform(0.5, 1.1, 3), 0, 255)


def view(picture, x=0.0, y=0.0):
    x, y = int(np.clip(x + 150, 0, 504)), int(np.clip(y + 150, 0, 328))
    return picture[y : y + HEIGHT, x : x + WIDTH]


def pan(picture, i):
    return view(picture, 25 * max(0, min(i - 8, 8)))


def shake(picture, i):
    return view(picture, *np.random.default_rng(i).normal(0, 5, 2))


def knock(picture, i):
    return view(picture, 18 * (i == 12), 10 * (i == 12))


def flash(picture, i):
    return view(picture, i * 0.5) * 0.2 + 204 if i in (12, 13) else view(picture, i * 0.5)


def fade(picture, i):
    return view(picture) * (0.1 + 0.9 * abs(i / 12 - 1))


def drift(picture, i):
    return view(picture, i * 0.5)


def slow(picture, i):
    """A fast pan at a third of the rate: every picture is shown three times."""
    return view(picture, 15 * (i // 3))


SHOTS = (pan, shake, knock, flash, fade, drift, slow)


def push(detector, pictures, *, rate=RATE, start=0, pix_fmt="yuv420p"):
    for number, picture in enumerate(pictures):
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture.astype(np.uint8)), format="rgb24")
        frame = frame.reformat(format=pix_fmt)
        frame.pts, frame.time_base = start + number, Fraction(1, rate)
        detector.push(frame)


def cuts_of(pictures, **options):
    detector = SceneDetector(3.0)
    push(detector, pictures, **options)
    return detector.cuts()


def shot(move, seed, frames=25):
    picture = texture(seed)
    return [move(picture, i) for i in range(frames)]


@pytest.mark.parametrize("move", SHOTS)
def test_one_shot_is_one_scene(move):
    for seed in range(4):
        assert cuts_of(shot(move, seed)) == []


@pytest.mark.parametrize("before", SHOTS[:-1])
@pytest.mark.parametrize("after", [drift, fade, knock])
def test_a_cut_between_two_shots_is_found(before, after):
    assert cuts_of(shot(before, 11) + shot(after, 12)) == [1.0]


def test_cuts_in_a_row_and_near_the_ends():
    pictures = shot(drift, 1, 2) + shot(drift, 2, 30) + shot(drift, 3, 10) + shot(drift, 4, 1)
    assert cuts_of(pictures) == [0.08, 1.28, 1.68]


def test_times_count_from_the_first_frame_and_never_pass_it():
    assert cuts_of(shot(drift, 1, 10) + shot(drift, 2, 10), rate=30, start=700) == [0.333333]


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv444p", "yuv420p10le", "gray", "rgb24"])
def test_every_pixel_format(pix_fmt):
    assert cuts_of(shot(drift, 1) + shot(drift, 2), pix_fmt=pix_fmt) == [1.0]


def test_sizes_that_change_and_tiny_ones():
    large = [np.repeat(np.repeat(picture, 2, 0), 2, 1) for picture in shot(drift, 1, 40)]
    assert cuts_of(shot(drift, 1, 20) + large[20:]) == []
    assert cuts_of([np.full((1, 1, 3), value) for value in (10,) * 10 + (200,) * 10]) == [0.4]


def test_frames_without_a_time_or_back_in_time_are_left_out():
    detector = SceneDetector(3.0)
    push(detector, shot(drift, 1, 20))
    push(detector, shot(drift, 2, 20))  # the same times again
    bare = av.VideoFrame.from_ndarray(np.zeros((HEIGHT, WIDTH, 3), np.uint8), format="rgb24")
    detector.push(bare)
    assert detector.cuts() == []
    assert SceneDetector(3.0).cuts() == []


def test_the_threshold_says_how_much_a_cut_stands_out():
    pictures = shot(shake, 3, 20) + shot(shake, 4, 20)
    found = {}
    for threshold in (1.5, 30.0):
        detector = SceneDetector(threshold)
        push(detector, pictures)
        found[threshold] = detector.cuts()
    assert 0.8 in found[1.5]
    assert found[30.0] == []


@settings(deadline=None)
@given(st.lists(st.integers(0, 2), max_size=30))
def test_asking_does_not_change_the_answer(scenes):
    colours = (10, 120, 240)
    pictures = [np.full((16, 16, 3), colours[scene]) for scene in scenes]
    asked, once = SceneDetector(3.0), SceneDetector(3.0)
    for number in range(len(pictures)):
        push(asked, pictures[number : number + 1], start=number)
        asked.cuts()
    push(once, pictures)
    assert asked.cuts() == once.cuts()
    assert once.cuts() == sorted(set(once.cuts()))


def test_memory_does_not_grow_with_the_video():
    detector = SceneDetector(3.0)
    pictures = shot(drift, 1, 10) + shot(drift, 2, 10)
    push(detector, pictures)
    tracemalloc.start()
    for turn in range(1, 20):
        push(detector, pictures, start=turn * len(pictures))
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 20_000 * (2 * WINDOW + 1)
    assert len(detector.cuts()) == 39
