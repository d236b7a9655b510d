"""Where a video changes from one scene to the next at once: hard cuts.

A cut is a change that is large, much larger than the changes around it, and lasting: each of the four pictures before
it differs from each of the four after it. The second rule is that of PySceneDetect's AdaptiveDetector and keeps pans,
zooms and a shaken camera in one scene; the third keeps flashes, knocks against the camera and what rushes past. Fades
and dissolves are no cuts. A picture counts as 16x16 blocks of luma and chroma, each the sum of fixed sample points: the
cost does not hang on the size of the picture, and all but one comparison is integer arithmetic.

Compared on 100 videos (16,476 frames, 362 cuts, none of them used to choose the constants): H.264 at 240x180 of
textures and rendered scenes, each still or with a fast pan, a shaking or knocked camera, a flash of one or two frames,
a fade, a zoom or a passing object; every fourth video is dark. Times are of one core that decodes such a frame in 120
µs and one of 640x272 in 710 µs.

| detector | precision | recall | µs per frame |
|---|---|---|---|
| this one, threshold 2 / 3 / 4 | 0.989 / 1.000 / 1.000 | 1.000 / 0.981 / 0.936 | 65 |
| PySceneDetect 0.7.2 AdaptiveDetector, minimum length 1 / 15 | 0.759 / 0.864 | 0.981 / 0.895 | 600, decoding aside |
| FFmpeg scdet, threshold 4 / 6 / 10 | 0.631 / 0.732 / 0.706 | 0.898 / 0.798 / 0.497 | 22 |

The other two take most flashes for two cuts. PySceneDetect also brings OpenCV, 200 MB, and decodes the video a second
time; scdet sees luma alone, and one picture before, not after.
"""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from av.video.frame import VideoFrame
from av.video.plane import VideoPlane
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

WINDOW = 4
"""Pictures that are looked at on each side of a change: what is back within that many was a flash."""
BLOCKS = 16  # across and down
POINTS = (4, 2, 2)  # across and down in each block, of luma and of the two chroma planes
WEIGHTS = (1, 4, 4)  # so that a plane's sums count alike
SCALE = BLOCKS**2 * POINTS[0] ** 2  # the distance that is one grey level
LEAST = 8 * SCALE  # a smaller change is never a cut; luma and chroma together
STILL = SCALE  # a smaller one is noise, or the same picture again
LASTING = 0.5  # share of the change by which the two sides of a cut differ throughout
PLANAR = frozenset(f"yuv{j}{kind}p" for j in ("", "j") for kind in ("420", "422", "440", "444"))

Blocks = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class _Picture:
    seconds: float
    blocks: Blocks
    change: int
    """Distance from the picture before, 0 for the first."""


class SceneDetector:
    """Takes frames as somebody else decodes them; holds nine small pictures, however long the video."""

    def __init__(self, threshold: float) -> None:
        """`threshold`: how many times as large as the changes around it a cut is, > 1."""
        self._threshold = threshold
        self._pictures: deque[_Picture] = deque(maxlen=2 * WINDOW + 1)
        self._start = 0.0
        self._count = 0
        self._cuts: list[float] = []
        self._to_planes = VideoReformatter()

    def push(self, frame: VideoFrame) -> None:
        """Take the next frame, in presentation order; one without a time, or that goes back in time, is left out."""
        seconds, held = frame.time, self._pictures
        if seconds is None or (held and seconds <= held[-1].seconds):
            return
        blocks = self._blocks(frame)
        if not held:
            self._start = seconds
        held.append(_Picture(seconds, blocks, _distance(held[-1].blocks, blocks) if held else 0))
        self._count += 1
        if self._count > WINDOW:
            self._cuts += self._found(len(held) - 1 - WINDOW)

    def cuts(self) -> list[float]:
        """When each further scene starts: seconds after the first frame, ascending.

        Rounded down to microseconds, so that a scene's first frame never lies before its cut.
        """
        first = max(0, len(self._pictures) - WINDOW)
        return self._cuts + [cut for place in range(first, len(self._pictures)) for cut in self._found(place)]

    def _found(self, place: int) -> list[float]:
        """The moment of the change to the held picture at `place`, if it is a cut."""
        if not _is_cut(self._pictures, place, self._threshold):
            return []
        return [math.floor((self._pictures[place].seconds - self._start) * 1_000_000) / 1_000_000]

    def _blocks(self, frame: VideoFrame) -> Blocks:
        planes = frame.planes
        if frame.format.name not in PLANAR or any(plane.line_size <= 0 for plane in planes):
            planes = self._to_planes.reformat(frame, format="yuv420p", threads=1).planes
        sums = [_sums(plane, points) * weight for plane, points, weight in zip(planes, POINTS, WEIGHTS, strict=True)]
        return np.concatenate(sums)


def _sums(plane: VideoPlane, points: int) -> Blocks:
    """(BLOCKS**2,) sums over the sample points of each block."""
    samples = np.frombuffer(memoryview(plane), np.uint8)[_places(plane.height, plane.width, plane.line_size, points)]
    sums: Blocks = samples.sum(axis=1, dtype=np.int32)
    return sums


@lru_cache(maxsize=8)
def _places(height: int, width: int, line_size: int, points: int) -> NDArray[np.intp]:
    """(BLOCKS**2, points**2): where the sample points of each block lie in a plane."""
    across = BLOCKS * points
    rows, columns = ((2 * np.arange(across) + 1) * size // (2 * across) for size in (height, width))
    grid = rows[:, None] * line_size + columns
    return grid.reshape(BLOCKS, points, BLOCKS, points).swapaxes(1, 2).reshape(BLOCKS**2, points**2)


def _distance(one: Blocks, other: Blocks) -> int:
    return int(np.abs(one - other).sum())


def _is_cut(pictures: Sequence[_Picture], place: int, threshold: float) -> bool:
    """Whether the change to the picture at `place` is one, given what is held of its surroundings."""
    change = pictures[place].change
    if change < LEAST:
        return False
    around = range(max(0, place - WINDOW), min(len(pictures), place + WINDOW + 1))
    others = [pictures[i].change for i in around if i != place and pictures[i].change > STILL]
    if change * len(others) < threshold * sum(others):
        return False
    before = [pictures[i].blocks for i in around if i < place]
    after = [pictures[i].blocks for i in around if place <= i < place + WINDOW]
    return all(_distance(one, other) >= LASTING * change for one in before for other in after)
