"""Frame indices and crop windows of every view, as pure functions of (seed, epoch, key, view).

Segments are those of TSN (Wang et al., "Temporal segment networks", ECCV 2016): a clip's frames are cut into T equal
segments and one frame is taken of each. Where a video has fewer frames than segments, frames repeat.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...shards.order import uniforms
from .config import LoaderConfig

ASPECT_RANGE = (3 / 4, 4 / 3)
CROP_TRIES = 10
EVAL_SHARE = 224 / 256  # of the short side, centre crop


@dataclass(frozen=True, slots=True)
class View:
    """What one view takes of a video: frames, a window of them, and whether they are mirrored."""

    frames: NDArray[np.int64]
    """(T,) indices in display order, repeats allowed."""
    anchor: tuple[float, float]
    """Top and left of the window, as shares of the upright frame's height and width."""
    shape: tuple[float, float]
    """Height and width of the window, as shares."""
    mirror: bool


def make_views(config: LoaderConfig, *, epoch: int, key: str, frames: int, width: float, height: float) -> list[View]:
    """All views of one video.

    Args:
        config: how clips are sampled; `training` draws, otherwise clips x crops fixed views.
        epoch: >= 0.
        key: of the sample.
        frames: in the video, > 0.
        width: of the upright frame as shown (square pixels), > 0.
        height: likewise.

    Returns:
        `clips * crops` views; clip-major.
    """
    if config.training:
        draws = uniforms(config.frames + 4 + 2 * CROP_TRIES, "view", config.seed, epoch, key, 0)
        anchor, shape = _random_window(draws[config.frames + 4 :], draws[1:3], config.min_crop_area, width / height)
        indices = segment_frames(frames, config.frames, draws[4 : 4 + config.frames])
        return [View(indices, anchor, shape, bool(draws[0] < config.flip))]
    views = []
    for clip in range(config.clips):
        offset = (clip + 0.5) / config.clips
        indices = segment_frames(frames, config.frames, np.full(config.frames, offset))
        for crop in range(config.crops):
            anchor, shape = _fixed_window(crop, config.crops, width, height)
            views.append(View(indices, anchor, shape, False))
    return views


def segment_frames(frames: int, segments: int, offsets: NDArray[np.float64]) -> NDArray[np.int64]:
    """One frame index per segment: floor((i + offset_i) * frames / segments), offsets in [0, 1)."""
    places = (np.arange(segments) + offsets) * (frames / segments)
    return np.minimum(places.astype(np.int64), frames - 1)


def _random_window(
    draws: NDArray[np.float64], place: NDArray[np.float64], min_area: float, aspect: float
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Random resized crop: area in [min_area, 1], log-uniform aspect; the whole frame's centre if no try fits."""
    low, high = np.log(ASPECT_RANGE[0]), np.log(ASPECT_RANGE[1])
    for i in range(CROP_TRIES):
        area = min_area + (1 - min_area) * draws[2 * i]
        ratio = float(np.exp(low + (high - low) * draws[2 * i + 1]))  # width / height as shown
        wide, tall = float(np.sqrt(area * ratio / aspect)), float(np.sqrt(area / ratio * aspect))
        if wide <= 1 and tall <= 1:
            return (float(place[0]) * (1 - tall), float(place[1]) * (1 - wide)), (tall, wide)
    wide, tall = min(1.0, ASPECT_RANGE[1] / aspect), min(1.0, aspect / ASPECT_RANGE[0])
    return ((1 - tall) / 2, (1 - wide) / 2), (tall, wide)


def _fixed_window(
    crop: int, crops: int, width: float, height: float
) -> tuple[tuple[float, float], tuple[float, float]]:
    """One crop: the centre square of 224/256 of the short side. Three: squares of the short side along the long one."""
    side = min(width, height) * (EVAL_SHARE if crops == 1 else 1.0)
    tall, wide = side / height, side / width
    along = 0.5 if crops == 1 else crop / (crops - 1)
    if width >= height:
        return ((1 - tall) / 2, along * (1 - wide)), (tall, wide)
    return (along * (1 - tall), (1 - wide) / 2), (tall, wide)
