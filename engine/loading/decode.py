"""Video bytes + frame indices → frames (PyAV), and frames + windows → normalised clips (one DALI graph)."""

import io
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import av
import numpy as np
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray
from nvidia.dali import Pipeline, fn, types

from ...shards.table import Packets
from ..media.video import SAFE_OPTIONS
from .sampling import View

MEMORY_OPTIONS = {key: value for key, value in SAFE_OPTIONS.items() if key != "protocol_whitelist"}  # bytes, no files
FROM_THE_BEGINNING = -1


def head_of(codec: str, packets: Packets) -> str:
    """The decoder that a video takes: "jpeg" where every picture stands alone in the file, else "pyav"."""
    return "jpeg" if codec == "mjpeg" and bool((packets.offset >= 0).all()) else "pyav"


def decode_frames(
    data: bytes, packets: Packets, indices: NDArray[np.int64], *, codec: str, rotation: int
) -> NDArray[np.uint8]:
    """Decode single frames of a video, upright.

    Only the packets from the keyframe before a wanted frame up to that frame are decoded; in an all-intra video those
    are the wanted frames alone.

    Args:
        data: the whole video file.
        packets: its packet table.
        indices: (T,) frames wanted, by their place in display order; repeats allowed.
        codec: FFmpeg's name of the decoder.
        rotation: degrees clockwise that turn a frame upright.

    Returns:
        (T, H, W, 3) uint8 RGB.

    Raises:
        ValueError: a wanted frame does not come out of the decoder; av.error.FFmpegError: it does not decode.
    """
    places = np.flatnonzero(packets.shown)
    places = places[np.argsort(packets.pts[places], kind="stable")][indices]
    wanted = list(zip(packets.pts[places].tolist(), places.tolist(), strict=True))
    found: dict[int, NDArray[np.uint8]] = {}
    if head_of(codec, packets) == "jpeg":
        frames = _decode_intra(data, packets, wanted)
    else:
        frames = _decode_seeking(data, packets, wanted)
    to_rgb = VideoReformatter()  # one for the clip: setting up a conversion costs more than converting a small frame
    size: dict[str, int] = {}  # of the first picture: a stream may change its size on the way
    for pts, frame in frames:
        if frame.is_corrupt:
            raise ValueError(f"the frame at pts {pts} does not decode whole")
        size = size or {"width": frame.width, "height": frame.height}
        found[pts] = to_rgb.reformat(frame, format="rgb24", threads=1, **size).to_ndarray().astype(np.uint8, copy=False)
    missing = [pts for pts, _ in wanted if pts not in found]
    if missing:
        raise ValueError(f"the decoder gave no frame at pts {missing[0]}")
    clip = np.stack([found[pts] for pts, _ in wanted])
    return np.ascontiguousarray(np.rot90(clip, -(rotation // 90), axes=(1, 2))) if rotation else clip


def _decode_intra(data: bytes, packets: Packets, wanted: Sequence[tuple[int, int]]) -> Iterator[tuple[int, VideoFrame]]:
    """Each wanted picture on its own, by its offset, without the container: a JPEG carries all that it needs."""
    decoder = VideoCodecContext.create("mjpeg", "r")
    assert isinstance(decoder, VideoCodecContext)
    decoder.thread_count = 1
    for pts, place in sorted(set(wanted)):
        start = int(packets.offset[place])
        for frame in decoder.decode(av.Packet(data[start : start + int(packets.size[place])])):
            yield pts, frame


def _decode_seeking(
    data: bytes, packets: Packets, wanted: Sequence[tuple[int, int]]
) -> Iterator[tuple[int, VideoFrame]]:
    groups: dict[int, set[int]] = defaultdict(set)
    for pts, place in wanted:
        groups[_start(packets, pts, place)].add(pts)
    with av.open(io.BytesIO(data), "r", options=MEMORY_OPTIONS) as container:
        stream = container.streams.video[0]
        stream.thread_count = 1
        for start in sorted(groups):
            left = groups[start]
            first_pts = None if start == FROM_THE_BEGINNING else int(packets.pts[start])
            if first_pts is not None:
                container.seek(first_pts, stream=stream)
            for frame in _frames_from(container, stream, first_pts):
                if frame.pts in left:
                    left.remove(frame.pts)
                    yield frame.pts, frame
                if not left:
                    break


def _frames_from(container: Any, stream: Any, first_pts: int | None) -> Iterator[VideoFrame]:
    """Frames from the packet at `first_pts` on (a seek may land before it), or all of them."""
    begun = first_pts is None
    for packet in container.demux(stream):
        begun = begun or packet.pts == first_pts
        if begun or not packet.size:
            yield from packet.decode()


def _start(packets: Packets, pts: int, place: int) -> int:
    """The keyframe to decode from: the last one at or before the packet that is not shown after it (open GOPs)."""
    upto = slice(0, place + 1)
    starts = np.flatnonzero(packets.keyframe[upto] & packets.shown[upto] & (packets.pts[upto] <= pts))
    # without one, the keyframe shows no picture of its own: an edit list hides the start of the video
    return int(starts[-1]) if len(starts) else FROM_THE_BEGINNING


class AugmentGraph:
    """The DALI graph behind every decode head: crop, resize, mirror, normalise; on its CPU back-end.

    Frames, windows and mirrors are given per view, so DALI draws nothing itself: the output depends on the input
    alone, whatever the threads and the split into batches.
    """

    def __init__(
        self,
        *,
        max_views: int,
        size: int,
        mean: Sequence[float],
        std: Sequence[float],
        threads: int,
    ) -> None:
        options = {"exec_dynamic": True, "prefetch_queue_depth": 1}
        with Pipeline(batch_size=max_views, num_threads=threads, device_id=None, **options) as self._pipe:
            video = fn.external_source(name="video", layout="FHWC", dtype=types.UINT8, ndim=4)
            anchor = fn.external_source(name="anchor", dtype=types.FLOAT, ndim=1)
            shape = fn.external_source(name="shape", dtype=types.FLOAT, ndim=1)
            mirror = fn.external_source(name="mirror", dtype=types.INT32, ndim=0)
            windows = fn.slice(video, anchor, shape, axis_names="HW")
            frames = fn.resize(windows, size=[size, size], antialias=True)
            clips = fn.crop_mirror_normalize(
                frames,
                dtype=types.FLOAT,
                output_layout="FCHW",
                mirror=mirror,
                mean=[255 * value for value in mean],
                std=[255 * value for value in std],
            )
            self._pipe.set_outputs(clips)
        self._pipe.build()

    def run(self, videos: Sequence[NDArray[np.uint8]], views: Sequence[View]) -> NDArray[np.float32]:
        """Normalise clips.

        Args:
            videos: per view, (T, H, W, 3) uint8.
            views: per view, its window and mirror.

        Returns:
            (views, T, 3, size, size) float32, a copy of its own.
        """
        (clips,) = self._pipe.run(
            video=list(videos),
            anchor=[np.array(view.anchor, np.float32) for view in views],
            shape=[np.array(view.shape, np.float32) for view in views],
            mirror=[np.array(view.mirror, np.int32) for view in views],
        )
        return np.array(clips.as_tensor())
