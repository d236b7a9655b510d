"""Frames, crop window and colours of every view, as pure functions of (seed, epoch, key, view): one draw for a clip."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...shards.order import uniforms
from .config import LoaderConfig
from .frames import dense_frames, segment_frames, timed_frames

ASPECT_RANGE = (3 / 4, 4 / 3)
CROP_TRIES = 10
EVAL_SHARE = 224 / 256  # of the short side, centre crop


@dataclass(frozen=True, slots=True)
class Colours:
    """How the colours of a view are changed, all frames alike."""

    brightness: float = 1.0
    """Factor of every value."""
    contrast: float = 1.0
    """Factor of the distance from middle grey."""
    saturation: float = 1.0
    """Factor of the distance from grey of the same luma; 0 is grey."""
    hue: float = 0.0
    """Turn of the colour circle, degrees."""


PLAIN = Colours()


@dataclass(frozen=True, slots=True)
class Source:
    """What is known of a video before it is decoded."""

    key: str
    frames: int
    """> 0."""
    width: float
    """Of the upright frame as shown (square pixels), > 0."""
    height: float
    times: NDArray[np.float64] | None = None
    """Seconds at which each frame is shown, ascending; needed where frames are sampled by seconds."""


@dataclass(frozen=True, slots=True)
class View:
    """What one view takes of a video: frames, a window of them, whether they are mirrored, and their colours."""

    frames: NDArray[np.int64]
    """(T,) indices in display order, repeats allowed."""
    anchor: tuple[float, float]
    """Top and left of the window, as shares of the upright frame's height and width."""
    shape: tuple[float, float]
    """Height and width of the window, as shares."""
    mirror: bool
    colours: Colours = PLAIN


def make_views(config: LoaderConfig, source: Source, *, epoch: int) -> list[View]:
    """All views of one video.

    Args:
        config: how clips are sampled; `training` draws, otherwise clips x crops fixed views.
        source: the video.
        epoch: >= 0.

    Returns:
        `clips * crops` views; clip-major.
    """
    if config.training:
        draws = uniforms(config.frames + 4 + 2 * CROP_TRIES, "view", config.seed, epoch, source.key, 0)
        aspect = source.width / source.height
        anchor, shape = _random_window(draws[config.frames + 4 :], draws[1:3], config.min_crop_area, aspect)
        indices = _indices(config, source, draws[4 : 4 + config.frames], float(draws[3]))
        colours = PLAIN
        if config.colour_jitter or config.grey:
            colours = _colours(config, uniforms(7, "colours", config.seed, epoch, source.key, 0))
        return [View(indices, anchor, shape, bool(draws[0] < config.flip), colours)]
    views = []
    for clip in range(config.clips):
        offset = (clip + 0.5) / config.clips
        indices = _indices(config, source, np.full(config.frames, offset), offset)
        for crop in range(config.crops):
            anchor, shape = _fixed_window(crop, config.crops, source.width, source.height)
            views.append(View(indices, anchor, shape, False))
    return views


def _indices(config: LoaderConfig, source: Source, offsets: NDArray[np.float64], offset: float) -> NDArray[np.int64]:
    """Frames of one view: `offsets` in every segment, or one `offset` of the clip in the video."""
    if config.sampling == "segments":
        return segment_frames(source.frames, config.frames, offsets)
    if config.sampling == "seconds":
        assert source.times is not None
        return timed_frames(source.times, config.frames, config.seconds_apart, offset, config.short)
    stride, place = (1, 0.0) if config.sampling == "every" else (config.stride, offset)
    return dense_frames(source.frames, config.frames, stride, place, config.short)


def _colours(config: LoaderConfig, draws: NDArray[np.float64]) -> Colours:
    """As torchvision's ColorJitter draws factors, here with a chance for all four together, and one of grey."""
    grey = draws[1] < config.grey
    if draws[0] >= config.colour_jitter:
        return Colours(saturation=0.0) if grey else PLAIN
    strength = config.jitter_strength
    brightness, contrast, saturation = (1 + s * (2 * d - 1) for s, d in zip(strength, draws[2:5], strict=False))
    hue = 360 * strength[3] * (2 * draws[5] - 1)
    return Colours(float(brightness), float(contrast), 0.0 if grey else float(saturation), float(hue))


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
