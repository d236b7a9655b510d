"""From pictures to duplicates: copies are found, and what only looks alike is kept, above all before a still camera."""

from functools import cache

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from reelmill.benchmarks.toyverbs.world import render
from reelmill.engine.dedup.search import find_duplicates
from reelmill.engine.media.fingerprint import Fingerprinter

Frames = list[NDArray[np.uint8]]


def digest(frames: Frames, rate: float = 8.0, start: int = 0) -> bytes:
    prints = Fingerprinter()
    for index, frame in enumerate(frames[start:]):
        prints.add(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24"), index / rate)
    return prints.digest()


def originals(*prints: bytes) -> list[int]:
    found: list[int] = find_duplicates(prints).of.tolist()
    return found


def noisy(frames: Frames, seed: int = 0) -> Frames:
    rng = np.random.default_rng(seed)
    return [(frame + rng.normal(0, 4, frame.shape)).clip(0, 255).astype(np.uint8) for frame in frames]


@cache
def toy(verb: str, noun: str, seed: int) -> Frames:
    return list(render(verb, noun, seed=(3, seed)).frames_THWC)


@cache
def scene() -> NDArray[np.float64]:
    plane = np.random.default_rng(4).integers(0, 256, (9, 12, 3)).repeat(10, axis=0).repeat(10, axis=1).astype(float)
    shifts = [np.roll(plane, (down, across), (0, 1)) for down in range(-8, 9, 4) for across in range(-8, 9, 4)]
    blurred: NDArray[np.float64] = np.stack(shifts).mean(axis=0)
    return blurred


def look(passages: dict[int, int], frames: int = 24) -> Frames:
    """A still camera; a thing enters at the frames given, at a height in pixels, and crosses in eight frames."""
    found = [scene().astype(np.uint8) for _ in range(frames)]
    for start, row in passages.items():
        for step in range(min(8, frames - start)):
            found[start + step][row : row + 14, 14 * step : 14 * step + 14] = 250
    return found


def test_two_looks_of_a_still_camera_are_two_videos():
    first, second = look({2: 10, 13: 60}), look({5: 40, 15: 25})
    assert originals(digest(noisy(first, 1)), digest(noisy(second, 2)), digest(noisy(first, 3))) == [-1, -1, 0]


def test_the_same_passage_at_another_time_is_another_video():
    assert originals(digest(look({2: 10, 12: 10})), digest(look({2: 10, 17: 10}))) == [-1, -1]


def test_two_long_looks_that_are_mostly_empty_are_two_videos():
    """Forty seconds: the stillest pictures show the empty scene alone."""
    first, second = look({30: 10, 200: 60}, 320), look({90: 40, 150: 20}, 320)
    assert originals(digest(first), digest(second), digest(noisy(first))) == [-1, -1, 0]


def test_a_cut_of_a_long_look_is_a_copy_of_the_right_one():
    first, second = look({30: 10, 120: 60}, 320), look({90: 40, 150: 20}, 320)
    assert originals(digest(second), digest(first), digest(first[:200]), digest(second, start=83)) == [-1, -1, 1, 0]


def test_an_empty_look_is_an_empty_look():
    assert originals(digest(noisy(look({}), 1)), digest(noisy(look({}), 2))) == [-1, 0]


@pytest.mark.parametrize("verb", ["push", "lift", "circle"])
def test_clips_of_one_action_and_object_are_kept(verb):
    """Flat scenes with small things: hashes alone take them for copies."""
    assert originals(*(digest(toy(verb, "box", seed), 12) for seed in range(12))) == [-1] * 12


def test_another_action_in_the_same_scene_is_kept():
    prints = [digest(toy(verb, "star", 5), 12) for verb in ("push", "pull", "lift", "drop", "circle", "press")]
    assert originals(*prints) == [-1] * 6


@pytest.mark.parametrize("verb", ["push", "lift", "grow", "press", "throw"])
def test_copies_of_flat_scenes_are_found(verb):
    frames = toy(verb, "ball", 7)
    blurred = [np.asarray(frame.reshape(32, 2, 32, 2, 3).mean(axis=(1, 3)), np.uint8) for frame in frames]
    halved = frames[::2]
    copies = [digest(noisy(frames), 12), digest(blurred, 12), digest(halved, 6), digest(frames, 12, start=13)]
    assert originals(digest(frames, 12), *copies, digest(frames[:23], 12)) == [-1, 0, 0, 0, 0, 0]


@pytest.mark.parametrize("verb", ["push", "lift", "grow", "press", "throw"])
def test_reversed_flat_scenes_are_kept(verb):
    frames = toy(verb, "ball", 7)
    assert originals(digest(frames, 12), digest(frames[::-1], 12)) == [-1, -1]


def test_what_is_found_depends_on_the_order_alone():
    prints = [digest(toy(verb, "ball", 7), 12, start) for start in (0, 7) for verb in ("push", "lift", "grow")]
    assert originals(*prints) == originals(*prints) == [-1, -1, -1, 0, 1, 2]
    assert originals(*prints[3:], *prints[:3]) == [-1, -1, -1, 0, 1, 2]
