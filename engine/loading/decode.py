"""Video bytes + frame indices → the very frames that decoding the whole video gives, for little more than their cost.

Packets come by the shard's packet table straight out of the file's bytes: nothing is demuxed, nothing is sought. What
no wanted frame needs is not decoded.
"""

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

from ...shards.table import Packets
from ..media.limits import MAX_PIXELS, check_size
from ..media.video import SAFE_OPTIONS, WITHOUT_DECODERS
from .bitstream import disposable
from .needed import left_out, places_of, runs_of
from .sampling import View

MEMORY_OPTIONS = {key: value for key, value in SAFE_OPTIONS.items() if key != "protocol_whitelist"}  # bytes, no files
DIRECT_CODECS = ("h264", "hevc", "vp8", "vp9", "av1", "mpeg4")
"""Whose decoders need nothing but a packet's payload and what the container's header says; others are demuxed."""

REUSED = 4
"""How often the bytes of a video may be part of packets on average: a table could say that each packet is all of it."""


def head_of(codec: str, packets: Packets) -> str:
    """The decoder that a video takes: "jpeg" where every picture stands alone in the file, else "pyav"."""
    return "jpeg" if codec == "mjpeg" and bool((packets.offset >= 0).all()) else "pyav"


def decode_frames(
    data: bytes, packets: Packets, indices: NDArray[np.int64], *, codec: str, rotation: int
) -> NDArray[np.uint8]:
    """Decode single frames of a video, upright.

    Only packets that a wanted frame needs are decoded: none before its keyframe, none after it, and none on the way
    from which no other picture is predicted. In an all-intra video those are the wanted frames alone.

    Args:
        data: the whole video file.
        packets: its packet table.
        indices: (T,) frames wanted, by their place in display order; repeats allowed.
        codec: FFmpeg's name of the decoder.
        rotation: degrees clockwise that turn a frame upright.

    Returns:
        (T, H, W, 3) uint8 RGB.

    Raises:
        ValueError: a wanted frame does not come out of the decoder, or the table does not fit the file.
        IndexError: an index beyond the last frame.
        MediaError: pictures larger than `media.limits` allow.
        av.error.FFmpegError: it does not decode.
    """
    places = places_of(packets, indices).tolist()
    _check_table(packets, len(data))
    if head_of(codec, packets) == "jpeg":
        frames = _alone(data, packets, places)
    elif codec in DIRECT_CODECS and bool((packets.offset >= 0).all()) and _one_header(data):
        frames = _direct(data, packets, places, codec)
    else:
        frames = _demuxed(data, packets, places, codec)
    clip = _rgb(frames, places)
    return np.ascontiguousarray(np.rot90(clip, -(rotation // 90), axes=(1, 2))) if rotation else clip


def decode_windows(
    data: bytes, packets: Packets, views: Sequence[View], *, codec: str, rotation: int
) -> list[NDArray[np.uint8]]:
    """Decode what the views of a video show; each frame once, however many take it.

    Args:
        data: the whole video file.
        packets: its packet table.
        views: frames and window of each.
        codec: as `decode_frames` takes it.
        rotation: likewise.

    Returns:
        Per view, (T, h, w, 3) uint8 RGB in the size of its window.

    Raises:
        as `decode_frames`.
    """
    indices, slots = np.unique(np.concatenate([view.frames for view in views]), return_inverse=True)
    frames = decode_frames(data, packets, indices, codec=codec, rotation=rotation)
    return [
        window_of(frames, view)[places]
        for view, places in zip(views, np.array_split(slots.ravel(), len(views)), strict=True)
    ]


def window_of(frames_THWC: NDArray[np.uint8], view: View) -> NDArray[np.uint8]:
    """What a view shows of frames, to whole pixels and at least one; no copy."""
    height, width = frames_THWC.shape[1:3]
    top, bottom = _span(view.anchor[0], view.shape[0], height)
    left, right = _span(view.anchor[1], view.shape[1], width)
    return frames_THWC[:, top:bottom, left:right]


def _span(anchor: float, share: float, pixels: int) -> tuple[int, int]:
    first = min(max(round(anchor * pixels), 0), pixels - 1)
    return first, min(max(round((anchor + share) * pixels), first + 1), pixels)


def _check_table(packets: Packets, size: int) -> None:
    """A table may have been made to hurt: nothing of it is believed that reaches out of the file."""
    ends = packets.offset + packets.size
    wrong = (packets.size < 0) | (packets.offset < -1) | ((packets.offset >= 0) & ((ends < 0) | (ends > size)))
    if wrong.any():
        place = int(np.flatnonzero(wrong)[0])
        raise ValueError(
            f"packet {place} must lie in the video of {size} bytes, but is said to have "
            f"{int(packets.size[place])} bytes at {int(packets.offset[place])}"
        )
    if (total := int(packets.size[packets.offset >= 0].sum())) > REUSED * size:
        raise ValueError(f"packets must lie beside each other in the video of {size} bytes, but have {total} in all")


def _rgb(frames: Iterator[tuple[int, VideoFrame]], places: Sequence[int]) -> NDArray[np.uint8]:
    """Frames by the places of their packets → one array in the order of `places`."""
    slots = defaultdict[int, list[int]](list)
    for slot, place in enumerate(places):
        slots[place].append(slot)
    to_rgb = VideoReformatter()  # one for the clip: setting up a conversion costs more than converting a small frame
    clip: NDArray[np.uint8] | None = None
    for place, frame in frames:
        if frame.is_corrupt:
            raise ValueError(f"the frame of packet {place} does not decode whole")
        if clip is None:  # the size of the first picture: a stream may change its size on the way
            check_size(frame.width, frame.height)
            clip = np.empty((len(places), frame.height, frame.width, 3), np.uint8)
        height, width = clip.shape[1:3]
        plane: Any = to_rgb.reformat(frame, width=width, height=height, format="rgb24", threads=1).planes[0]
        rows = np.frombuffer(plane, np.uint8).reshape(height, plane.line_size)[:, : 3 * width]
        for slot in slots.pop(place, ()):
            clip[slot] = rows.reshape(height, width, 3)
    if slots or clip is None:
        raise ValueError(f"the decoder gave no frame for packet {min(slots, default=0)}")
    return clip


def _alone(data: bytes, packets: Packets, places: Sequence[int]) -> Iterator[tuple[int, VideoFrame]]:
    """Each wanted picture on its own, without the container: a JPEG carries all that it needs."""
    decoder = VideoCodecContext.create("mjpeg", "r")
    assert isinstance(decoder, VideoCodecContext)
    _prepare(decoder)
    for place in sorted(set(places)):
        for frame in decoder.decode(av.Packet(_payload(data, packets, place))):
            yield place, frame


def _direct(data: bytes, packets: Packets, places: Sequence[int], codec: str) -> Iterator[tuple[int, VideoFrame]]:
    """Packets by their offsets into a decoder that knows the container's header; `pts` are places in the table."""
    wanted = set(places)
    with av.open(io.BytesIO(data), "r", options=MEMORY_OPTIONS | WITHOUT_DECODERS) as container:
        decoder = _first_video(container, codec).codec_context
        # where a stream does not say how far pictures are out of order, the most is taken
        _prepare(decoder, {"strict": "1"} if codec == "h264" else None)
        for run in runs_of(packets, places):
            payloads = [_payload(data, packets, place) for place in range(run[0], run[1] + 1)]
            free = disposable(codec, decoder.extradata, payloads)
            skipped = left_out(packets, run, wanted, free)
            for place, payload in enumerate(payloads, run[0]):
                if place not in skipped:
                    packet = av.Packet(payload)
                    packet.pts = place
                    yield from _of(decoder.decode(packet), wanted)
            yield from _of(decoder.decode(None), wanted)
            decoder.flush_buffers()


def _prepare(decoder: VideoCodecContext, options: dict[str, str] | None = None) -> None:
    decoder.thread_count = 1
    decoder.options = {"max_pixels": str(MAX_PIXELS)} | (options or {})  # headers may say anything


def _of(frames: Sequence[VideoFrame], wanted: set[int]) -> Iterator[tuple[int, VideoFrame]]:
    for frame in frames:
        if frame.pts in wanted:
            yield frame.pts, frame


def _demuxed(data: bytes, packets: Packets, places: Sequence[int], codec: str) -> Iterator[tuple[int, VideoFrame]]:
    """The same by way of the container, where packets do not lie in the file as they are, or are not all there is."""
    place_of = {int(packets.pts[place]): place for place in places}
    with av.open(io.BytesIO(data), "r", options=MEMORY_OPTIONS) as container:
        stream = _first_video(container, codec)
        _prepare(stream.codec_context)
        for first, last in runs_of(packets, places):
            left = {int(packets.pts[place]) for place in places if first <= place <= last}
            from_pts = int(packets.pts[first]) if packets.shown[first] and first else None
            container.seek(0 if from_pts is None else from_pts, stream=stream)
            for frame in _frames_from(container, stream, from_pts):
                if frame.pts in left:
                    left.remove(frame.pts)
                    yield place_of[frame.pts], frame
                if not left:
                    break


def _frames_from(container: Any, stream: Any, first_pts: int | None) -> Iterator[VideoFrame]:
    """Frames from the packet at `first_pts` on (a seek may land before it), or all of them."""
    begun = first_pts is None
    for packet in container.demux(stream):
        begun = begun or packet.pts == first_pts
        if begun or not packet.size:
            yield from packet.decode()


def _first_video(container: Any, codec: str) -> Any:
    """The stream that was probed: the first that is no cover picture.

    Raises:
        ValueError: the file holds none, or one of another codec.
    """
    pictures = av.stream.Disposition.attached_pic
    stream = next((s for s in container.streams.video if not s.disposition & pictures), None)
    if stream is None or stream.codec_context is None:
        raise ValueError("the file holds no video that FFmpeg knows")
    if (found := stream.codec_context.codec.canonical_name) != codec:
        raise ValueError(f"the table says {codec}, but the file holds {found}")
    return stream


def _payload(data: bytes, packets: Packets, place: int) -> bytes:
    start = int(packets.offset[place])
    return data[start : start + int(packets.size[place])]


def _one_header(data: bytes) -> bool:
    """Whether one header holds for all packets: an mp4 may list several, and only its demuxer tells which is whose."""
    place = data.find(b"stsd")
    while place >= 0:
        if data[place + 8 : place + 12] not in (b"\0\0\0\1", b""):
            return False
        place = data.find(b"stsd", place + 4)
    return True
