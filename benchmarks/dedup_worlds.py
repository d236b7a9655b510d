"""Clips to find copies of, and copies of clips: what the deduplication benchmark encodes."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from ..engine.errors import MediaError
from .toyverbs.world import NOUNS, VERBS, render

Frames = list[NDArray[np.uint8]]

SHORT_SIDE = 240  # of clips that are read, pixels
LONGEST_SECONDS = 30  # of clips that are read
SPAN_SECONDS = 3.0  # of what clips that are read are cut into
PLAIN, STRONG = 23, 36  # x264's crf: an ordinary copy, and strong compression
SAME_LEVELS = 3.0  # grey levels between pictures of 16x16 that no eye tells apart


@dataclass(frozen=True, slots=True)
class Source:
    """A clip to be copied."""

    kind: str
    """How it differs from the source before it: "source" entirely; "class" another clip of the same action, object
    and style; "neighbour" another stretch of time before the same backdrop."""
    frames: Frames
    rate: float


def textures(count: int, seed: int) -> Iterator[Source]:
    """A camera that pans over planes."""
    for number in range(count):
        yield Source("source", _texture(seed + number), 24.0)


def toyverbs(count: int, seed: int) -> Iterator[Source]:
    """In threes: a clip, another of the same verb and noun, and another verb in the first one's scene."""
    for number in range(count):
        third, kind = divmod(number, 3)
        verb, noun = third % len(VERBS), NOUNS[(third + third // len(VERBS)) % len(NOUNS)]
        name = VERBS[(verb + 3 * (kind == 2)) % len(VERBS)]
        clip = render(name, noun, seed=(seed, third, kind % 2))
        yield Source(("source", "class", "neighbour")[kind], list(clip.frames_THWC), 12.0)


def still_camera(count: int, seed: int, frames: int = 480) -> Iterator[Source]:
    """In twos: a long look at a backdrop before which small things pass now and then, and the next such look."""
    for scene in range((count + 1) // 2):
        looks = _still_camera(seed + scene, 2 * frames)
        yield Source("source", looks[:frames], 24.0)
        if 2 * scene + 1 < count:
            yield Source("neighbour", looks[frames:], 24.0)


def spans(paths: list[Path], seconds: float = SPAN_SECONDS) -> Iterator[Source]:
    """Files, cut into stretches without overlap; what is shorter is left out."""
    for path in paths:
        frames, rate = _read(path)
        length = int(seconds * rate)
        for number in range(len(frames) // length if length else 0):
            yield Source("neighbour" if number else "source", frames[number * length : (number + 1) * length], rate)


def whole(paths: list[Path]) -> Iterator[Source]:
    """Files as they are, `LONGEST_SECONDS` at most; what is shorter than `SPAN_SECONDS` is left out."""
    for path in paths:
        frames, rate = _read(path)
        if frames and len(frames) >= SPAN_SECONDS * rate:
            yield Source("source", frames, rate)


def look_alikes(count: int, nouns: int, seed: int) -> Iterator[Source]:
    """Toyverbs clips of every verb with a few nouns each, all different."""
    for number in range(count):
        verb, noun = VERBS[number % len(VERBS)], NOUNS[number // len(VERBS) % nouns]
        yield Source("source", list(render(verb, noun, seed=(seed, 1, number)).frames_THWC), 12.0)


def write_copies(source: Source, folder: Path) -> Iterator[tuple[str, Path]]:
    """The clip and its copies as files, one at a time, and what was done to each."""
    frames, rate = source.frames, source.rate
    yield source.kind, encode(folder / "source.mp4", frames, rate)
    yield "remux", _remux(folder / "source.mp4", folder / "remux.mkv")
    yield "encode_strong", encode(folder / "copy.mp4", frames, rate, crf=STRONG)
    yield "encode_other", encode(folder / "copy.webm", frames, rate, codec="libvpx-vp9")
    third = len(frames) // 3
    sixth = len(frames) // 6
    bar = len(frames[0]) // 14 * 2
    copies: dict[str, Callable[[], tuple[Frames, float]]] = {
        "scale_0.5": lambda: (_scaled(frames, 0.5), rate),
        "scale_0.75": lambda: (_scaled(frames, 0.75), rate),
        "fps_0.5": lambda: (_retimed(frames, 0.5), rate * 0.5),
        "fps_1.5": lambda: (_retimed(frames, 1.5), rate * 1.5),
        "trim_start": lambda: (frames[third + 1 :], rate),  # one more: not a whole number of cells
        "trim_end": lambda: (frames[: -third - 1], rate),
        "trim_both": lambda: (frames[sixth + 1 : -sixth], rate),
        "letterbox": lambda: ([np.pad(frame, ((bar, bar), (0, 0), (0, 0))) for frame in frames], rate),
    }
    for kind, make in copies.items():
        yield kind, encode(folder / "copy.mp4", *make())
    for kind, others in {"mirror": [frame[:, ::-1] for frame in frames], "reverse": frames[::-1]}.items():
        yield (f"{kind}_same" if _is_same(frames, others) else kind), encode(folder / "copy.mp4", others, rate)


def _is_same(frames: Frames, others: Frames) -> bool:
    """Whether a changed clip shows what the clip shows, in that order, perhaps somewhat earlier or later."""
    a_TX, b_TX = (np.stack([_coarse(frame) for frame in clip]) for clip in (frames, others))
    distance_TT = np.sqrt(((a_TX[:, None] - b_TX[None]) ** 2).mean(axis=2))
    furthest = int(0.4 * len(frames))
    return min(float(np.diagonal(distance_TT, shift).mean()) for shift in range(-furthest, furthest + 1)) < SAME_LEVELS


def _coarse(frame: NDArray[np.uint8]) -> NDArray[np.float32]:
    grey = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
    small = grey.reformat(width=16, height=16, format="gray", interpolation="AREA", threads=1)
    return small.to_ndarray().astype(np.float32).ravel()


def _texture(seed: int, frames: int = 84, height: int = 120, width: int = 160) -> Frames:
    """A camera that pans over a plane of coloured tiles, or of clouds, with a little noise."""
    rng = np.random.default_rng(seed)
    plane = _plane(rng, height, width, smooth=seed % 2 == 1)
    down, across = rng.uniform(0.3, 2, 2)
    windows = [
        plane[int(t * down) : int(t * down) + height, int(t * across) : int(t * across) + width] for t in range(frames)
    ]
    return [(window + rng.normal(0, 4, window.shape)).clip(0, 255).astype(np.uint8) for window in windows]


def _still_camera(seed: int, frames: int, height: int = 96, width: int = 128) -> Frames:
    """Discs of two to four percent of the picture cross clouds one by one, and most of the time nothing does."""
    rng = np.random.default_rng((1, seed))
    backdrop = _plane(rng, height, width, smooth=True)[:height, :width] * 0.7 + 30
    y, x = np.mgrid[:height, :width]
    pictures, passing, velocity, radius, grey = [], np.array([-9.0, -9.0]), np.zeros(2), 0.0, 0
    for _ in range(frames):
        if not ((passing > -0.2) & (passing < 1.2)).all() and rng.random() < 0.012:
            angle = rng.uniform(0, 2 * np.pi)
            velocity = rng.uniform(0.3, 0.8) / 24 * np.array([np.cos(angle), np.sin(angle)])
            passing = 0.5 - velocity / np.abs(velocity).max() * 0.6 + rng.uniform(-0.2, 0.2, 2)
            radius, grey = rng.uniform(0.09, 0.13), int(rng.choice([10, 245]))
        passing = passing + velocity
        covered = (y / height - passing[0]) ** 2 + ((x / width - passing[1]) * width / height) ** 2 < radius**2
        picture = np.where(covered[..., None], grey, backdrop) + rng.normal(0, 3, backdrop.shape)
        pictures.append(picture.clip(0, 255).astype(np.uint8))
    return pictures


def _plane(rng: np.random.Generator, height: int, width: int, *, smooth: bool) -> NDArray[np.float64]:
    tiles = rng.integers(0, 256, (height // 8 + 30, width // 8 + 30, 3))
    plane = tiles.repeat(8, axis=0).repeat(8, axis=1).astype(float)
    if smooth:
        for axis in (0, 1):
            plane = np.mean([np.roll(plane, shift, axis) for shift in range(-12, 13)], axis=0)
        plane = (plane - plane.min()) / np.ptp(plane) * 255
    return plane


def _read(path: Path) -> tuple[Frames, float]:
    """The first frames of a file; none if it is damaged from the start."""
    frames: Frames = []
    rate = 25.0
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            rate = float(stream.average_rate or 25)
            scale = min(1.0, SHORT_SIDE / min(stream.codec_context.width, stream.codec_context.height))
            for frame in container.decode(stream):
                frames.append(_resized(frame, scale))
                if len(frames) >= LONGEST_SECONDS * rate:
                    break
    except (av.FFmpegError, MediaError):
        return [], rate
    return frames, rate


def _scaled(frames: Frames, scale: float) -> Frames:
    return [_resized(av.VideoFrame.from_ndarray(np.ascontiguousarray(f), format="rgb24"), scale) for f in frames]


def _resized(frame: av.VideoFrame, scale: float) -> NDArray[np.uint8]:
    width, height = (max(2, 2 * round(side * scale / 2)) for side in (frame.width, frame.height))
    small = frame.reformat(width=width, height=height, format="rgb24", interpolation="BICUBIC", threads=1)
    return small.to_ndarray().astype(np.uint8, copy=False)


def _retimed(frames: Frames, factor: float) -> Frames:
    return [frames[int((index + 0.5) / factor)] for index in range(int(len(frames) * factor))]


def _remux(path: Path, copy: Path) -> Path:
    with av.open(str(path)) as source, av.open(str(copy), "w") as container:
        stream = container.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                container.mux(packet)
    return copy


def encode(path: Path, frames: Frames, rate: float, *, crf: int = PLAIN, codec: str = "libx264") -> Path:
    """Write a clip; `crf` is the strength of the compression."""
    speed = {"preset": "veryfast"} if codec == "libx264" else {"deadline": "realtime", "cpu-used": "8", "b": "0"}
    options = speed | {"crf": str(crf), "threads": "1"}
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=Fraction(rate).limit_denominator(1001), options=options)
        height, width = (side // 2 * 2 for side in frames[0].shape[:2])
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for frame in frames:
            picture = np.ascontiguousarray(frame[:height, :width])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path
