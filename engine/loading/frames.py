"""Which frames a view takes of a video: pure functions of where it lies in its room.

Segments are those of TSN (Wang et al., "Temporal segment networks", ECCV 2016): the video is cut into T equal segments
and one frame is taken of each. Dense clips are those of I3D and after: T frames at a fixed distance. T frames in all.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Sampling = Literal["segments", "dense", "every", "seconds"]
Short = Literal["last", "loop"]
Indices = NDArray[np.int64]


def segment_frames(frames: int, segments: int, offsets: NDArray[np.float64]) -> Indices:
    """One frame index per segment: floor((i + offset_i) * frames / segments), offsets in [0, 1).

    Where a video has fewer frames than segments, frames repeat.
    """
    places = (np.arange(segments) + offsets) * (frames / segments)
    return np.minimum(places.astype(np.int64), frames - 1)


def dense_frames(frames: int, count: int, stride: int, offset: float, short: Short) -> Indices:
    """`count` frames `stride` apart; the clip lies at `offset` in [0, 1) of the room that it has in the video.

    Args:
        frames: of the video, > 0.
        count: frames of the clip, > 0.
        stride: > 0.
        offset: 0 is the start; 0.5 of a deterministic view is the middle.
        short: what comes after the end of a video that is shorter than the clip.
    """
    room = max(0, frames - ((count - 1) * stride + 1)) + 1
    return _within(int(room * offset) + stride * np.arange(count), frames, short)


def timed_frames(times: NDArray[np.float64], count: int, apart: float, offset: float, short: Short) -> Indices:
    """`count` frames that are shown `apart` seconds after each other: at each moment the frame on the screen.

    Args:
        times: of every frame of the video, seconds, ascending.
        count: frames of the clip, > 0.
        apart: seconds, > 0.
        offset: as `dense_frames` takes it; the room is one of time.
        short: as `dense_frames` takes it.
    """
    lasting = _length(times)
    start = max(0.0, lasting - (count - 1) * apart) * offset
    moments = start + apart * np.arange(count)
    turns = np.floor_divide(moments, lasting) if short == "loop" else np.zeros(count)
    places = np.searchsorted(times - times[0], moments - turns * lasting + 1e-9, side="right") - 1
    return np.clip(places, 0, len(times) - 1).astype(np.int64)


def _length(times: NDArray[np.float64]) -> float:
    """Seconds from the first frame to the end of the last one, which is shown as long as the others on average."""
    span = float(times[-1] - times[0])
    return span * len(times) / (len(times) - 1) if span > 0 else 1.0


def _within(indices: Indices, frames: int, short: Short) -> Indices:
    return indices % frames if short == "loop" else np.minimum(indices, frames - 1)
