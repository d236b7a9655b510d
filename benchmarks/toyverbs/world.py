"""The toyverbs world: one object that moves before a backdrop, rendered from (verb, noun, seed) alone.

A noun is a shape, a scene a backdrop, a verb a path of (x, y, size) over time. Motion fills a random part of the clip
and the object rests before and after it. Shape, colour, scene, timing and the place of the path are drawn from the
seed, and none of them from the verb: a single noun, scene or clip length says nothing about the verb.

push and pull, lift and drop, grow and shrink are order twins: the same frames in the opposite order, so a model that
ignores order cannot tell one from the other.

Legend: T frames, H height, W width, C colour channels (RGB).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]
Path = tuple[Floats, Floats, Floats]

BASE_VERBS = ("push", "pull", "lift", "grow", "shake", "circle", "slide", "press")
NOVEL_VERBS = ("drop", "shrink", "bounce", "throw")
VERBS = BASE_VERBS + NOVEL_VERBS
NOUNS = ("ball", "box", "star", "cross", "ring", "bar", "cone", "moon")
SCENES = ("field", "room", "water", "night")

_TINTS = {  # a typical colour, jittered in every clip: shape decides where two jittered colours meet
    "ball": (0.95, 0.30, 0.25),
    "box": (0.85, 0.60, 0.30),
    "star": (0.98, 0.92, 0.35),
    "cross": (0.95, 0.95, 0.95),
    "ring": (0.95, 0.55, 0.85),
    "bar": (0.45, 0.95, 0.55),
    "cone": (0.98, 0.60, 0.10),
    "moon": (0.60, 0.85, 0.98),
}
_TINT_JITTER = 0.12
_PLACE_JITTER = 0.08
_SIZE_JITTER = 0.06
_LONGEST_REST = 0.3  # share of the clip, before and after the motion
_MARGIN = 0.2  # of the frame, on each side of the path of the centre
_RADIUS = (0.09, 0.24)  # of the shorter side, at size 0 and 1


@dataclass(frozen=True, slots=True)
class Clip:
    """One rendered video and the truth behind it."""

    frames_THWC: npt.NDArray[np.uint8]
    verb: str
    noun: str
    scene: str
    x_T: Floats
    """Centre of the object, about 0 (left) to 1 (right)."""
    y_T: Floats
    """Centre of the object, about 0 (top) to 1 (bottom)."""
    size_T: Floats
    """About 0 (small) to 1 (large)."""


def path(verb: str, progress_T: Floats) -> Path:
    """Where the object is when a part `progress_T` of the action is over.

    Args:
        verb: one of `VERBS`.
        progress_T: (T,) fp32 in [0, 1].

    Returns:
        x_T, y_T, size_T: (T,) fp32 each, in [0, 1]; y grows downwards.

    Raises:
        ValueError: the verb is not known.
    """
    t = progress_T
    half = np.full_like(t, 0.5)
    turn = (2 * np.pi * t).astype(np.float32)
    match verb:
        case "push":
            return t, half, half
        case "pull":
            return 1 - t, half, half
        case "lift":
            return half, 1 - t, half
        case "drop":
            return half, t, half
        case "grow":
            return half, half, t
        case "shrink":
            return half, half, 1 - t
        case "shake":
            return half + 0.15 * np.sin(3 * turn), half, half
        case "circle":
            return half + 0.5 * np.cos(turn), half + 0.5 * np.sin(turn), half
        case "slide":
            return np.sqrt(t), half + 0.5, half
        case "press":
            return half, t, 1 - t
        case "bounce":
            return t, 1 - 0.6 * np.abs(np.sin(1.5 * turn)), half
        case "throw":
            return t, 1 - t, 1 - t
    raise ValueError(f"verb must be one of {', '.join(VERBS)}, got {verb!r}")


def render(
    verb: str, noun: str, *, seed: int | tuple[int, ...], frames: int = 36, height: int = 64, width: int = 64
) -> Clip:
    """Render one clip; the same arguments give the same frames.

    Args:
        verb: one of `VERBS`.
        noun: one of `NOUNS`.
        seed: draws scene, colour, timing, place and texture.
        frames: T, at least 2.
        height: H in pixels, at least 16.
        width: W in pixels, at least 16.

    Raises:
        ValueError: verb or noun is not known, or the clip is too short or too small.
    """
    if noun not in _SHAPES:
        raise ValueError(f"noun must be one of {', '.join(NOUNS)}, got {noun!r}")
    if frames < 2 or height < 16 or width < 16:
        raise ValueError(f"a clip must have at least 2 frames of 16x16, got {frames} of {width}x{height}")
    rng = np.random.Generator(np.random.Philox(np.random.SeedSequence(seed)))
    scene = SCENES[int(rng.integers(len(SCENES)))]
    x_T, y_T, size_T = _jittered_path(verb, frames, rng)
    tint_C = np.array(_TINTS[noun], np.float32) + rng.uniform(-_TINT_JITTER, _TINT_JITTER, 3).astype(np.float32)
    backdrop_HWC = _backdrop(scene, height, width, rng)
    side = min(height, width)
    radius_T11 = (side * (_RADIUS[0] + (_RADIUS[1] - _RADIUS[0]) * size_T))[:, None, None]
    left_T11 = (width * (_MARGIN + (1 - 2 * _MARGIN) * x_T))[:, None, None]
    top_T11 = (height * (_MARGIN + (1 - 2 * _MARGIN) * y_T))[:, None, None]
    across_T1W = (np.arange(width, dtype=np.float32) + 0.5 - left_T11) / radius_T11
    down_TH1 = (np.arange(height, dtype=np.float32)[:, None] + 0.5 - top_T11) / radius_T11
    # One pixel of soft edge: `outside` is in radii, so the edge is as soft on a small object as on a large one.
    outside_THW = _SHAPES[noun](across_T1W, down_TH1)
    cover_THW = np.clip(0.5 - outside_THW * radius_T11, 0, 1)
    shade_THWC = backdrop_HWC + cover_THW[..., None] * (np.clip(tint_C, 0, 1) - backdrop_HWC)
    frames_THWC = (shade_THWC * 255 + 0.5).astype(np.uint8)
    return Clip(frames_THWC, verb, noun, scene, x_T, y_T, size_T)


def _jittered_path(verb: str, frames: int, rng: np.random.Generator) -> Path:
    start, rest_after = rng.uniform(0, _LONGEST_REST, 2)
    clock_T = np.linspace(0, 1, frames, dtype=np.float32)
    progress_T = np.clip((clock_T - start) / (1 - rest_after - start), 0, 1).astype(np.float32)
    x_T, y_T, size_T = path(verb, progress_T)
    shift_x, shift_y = rng.uniform(-_PLACE_JITTER, _PLACE_JITTER, 2).astype(np.float32)
    scale = np.float32(rng.uniform(-_SIZE_JITTER, _SIZE_JITTER))
    return x_T + shift_x, y_T + shift_y, size_T + scale


def _backdrop(scene: str, height: int, width: int, rng: np.random.Generator) -> Floats:
    down_H1, across_1W = np.mgrid[:height, :width].astype(np.float32)
    phase = rng.uniform(0, 2 * np.pi)
    grain_HW = rng.uniform(-0.03, 0.03, (height, width)).astype(np.float32)
    match scene:
        case "field":
            tint, pattern_HW = (0.10, 0.35, 0.12), 0.05 * np.sin(across_1W / 2 + down_H1 / 3 + phase)
        case "room":
            tint, pattern_HW = (0.30, 0.24, 0.20), 0.06 * ((across_1W // 8 + down_H1 // 8) % 2)
        case "water":
            tint, pattern_HW = (0.10, 0.16, 0.42), 0.06 * np.sin(down_H1 / 2.5 + phase)
        case "night":
            tint, pattern_HW = (0.05, 0.05, 0.10), 0.5 * (grain_HW > 0.0297)
        case _:
            raise AssertionError(scene)
    bright_HW = pattern_HW.astype(np.float32) + grain_HW
    backdrop_HWC: Floats = np.clip(np.array(tint, np.float32) + bright_HW[..., None], 0, 1)
    return backdrop_HWC


# A shape takes offsets from its centre in radii, broadcastable to (T, H, W), and gives how far outside a point lies:
# negative inside, 0 on the edge, about 1 one radius away.
Shape = Callable[[Floats, Floats], Floats]


def _ball(u: Floats, v: Floats) -> Floats:
    return np.sqrt(u * u + v * v) - 1


def _box(u: Floats, v: Floats) -> Floats:
    return np.maximum(np.abs(u), np.abs(v)) - 0.9


def _star(u: Floats, v: Floats) -> Floats:
    return (np.sqrt(np.abs(u)) + np.sqrt(np.abs(v))) ** 2 / 1.5 - 1


def _cross(u: Floats, v: Floats) -> Floats:
    a, b = np.abs(u), np.abs(v)
    return np.maximum(np.maximum(a, b) - 1.1, np.minimum(a, b) - 0.3)


def _ring(u: Floats, v: Floats) -> Floats:
    return np.abs(np.sqrt(u * u + v * v) - 0.85) - 0.25


def _bar(u: Floats, v: Floats) -> Floats:
    return np.maximum(np.abs(u) - 1.4, np.abs(v) - 0.4)


def _cone(u: Floats, v: Floats) -> Floats:
    outside: Floats = np.maximum(v - 0.9, np.abs(u) - 0.5 * v - 0.55)
    return outside


def _moon(u: Floats, v: Floats) -> Floats:
    return np.maximum(np.sqrt(u * u + v * v) - 1.1, 0.8 - np.sqrt((u - 0.6) ** 2 + v * v))


_SHAPES: dict[str, Shape] = dict(zip(NOUNS, (_ball, _box, _star, _cross, _ring, _bar, _cone, _moon), strict=True))
