"""Finds a span in a video: its frames for encoding, its packets for copying. Runs inside the sandbox's child.

Times are seconds after the video's first frame, whatever clock the file keeps.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import accumulate, chain
from math import floor, inf
from typing import Any

import av.error
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from ..errors import MediaError
from .limits import check_count, check_size
from .mux import packets_of
from .video import decode_error, open_video

TICK = 1e-6  # spans are kept to microseconds


@dataclass(frozen=True, slots=True)
class Frames:
    """The frames of a video from some keyframe on, in presentation order."""

    stream: VideoStream
    zero: float
    """The first frame's time on the file's clock, seconds."""
    frames: Iterator[VideoFrame]


@contextmanager
def frames_before(path: str, start: float) -> Iterator[Frames]:
    """Decode a video from a keyframe at or before `start` on; from its beginning where it cannot be sought in.

    Raises:
        MediaError: a frame does not decode.
    """
    with ExitStack() as opened:
        source, stream = opened.enter_context(open_video(path))
        frames = _decoded(source, stream)
        first = next(frames, None)
        zero = 0.0 if first is None or first.time is None else first.time
        if first is not None and first.time is not None and start > 0:
            sought = _sought(source, stream, zero + start + TICK)
            if sought is not None:
                yield Frames(stream, zero, sought)
                return
            source, stream = opened.enter_context(open_video(path))
            frames = _decoded(source, stream)
            first = next(frames, None)
        yield Frames(stream, zero, chain([] if first is None else [first], frames))


def _decoded(source: InputContainer, stream: VideoStream, from_moment: float = -inf) -> Iterator[VideoFrame]:
    try:
        for frame in source.decode(stream):
            check_size(frame.width, frame.height)
            if frame.time is None or frame.time >= from_moment:
                yield frame
    except av.error.FFmpegError as error:
        raise decode_error(error, "a frame") from None


def _sought(source: InputContainer, stream: VideoStream, moment: float) -> Iterator[VideoFrame] | None:
    """The frames from the last keyframe up to `moment` on; None where there is no telling."""
    key = _keyframe_before(source, stream, moment)
    if key is None or key > moment:
        return None
    _seek(source, stream, moment)  # the look at the keyframe took it away
    frames = _decoded(source, stream, key)  # what is shown before the keyframe needs what lies before it
    try:
        first = next(frames, None)
    except MediaError:
        return None
    if first is None or first.time is None or first.time > moment or first.is_corrupt:
        return None  # the picture builds up over time: gradual refresh
    return chain([first], frames)


def _keyframe_before(source: InputContainer, stream: VideoStream, moment: float) -> float | None:
    """The time of the keyframe that a seek to a moment of the file's clock lands on; None where that fails."""
    try:
        _seek(source, stream, moment)
        packet: Any = next(source.demux(stream), None)
    except av.error.FFmpegError:
        return None
    if packet is None or not packet.size or not packet.is_keyframe or packet.pts is None:
        return None
    return float(packet.pts * packet.time_base)


def _seek(source: InputContainer, stream: VideoStream, moment: float) -> None:
    source.seek(floor(moment / (stream.time_base or 1)), stream=stream)


@dataclass(frozen=True, slots=True)
class Part:
    """The packets that a copy of a span is made of."""

    sought: float | None
    """Moment of the file's clock that is sought before they are counted; None counts from the beginning."""
    first: int
    last: int
    """Places of the first and last packet, in the order of the file."""
    zero: float
    """The first frame's time on the file's clock, seconds."""
    wanted: float
    """When the span's first frame is shown."""
    start: float
    """When the first packet is shown; others are left out that are shown earlier."""
    end: float
    """When the last one has been shown."""
    ahead: float
    """How far decoding times run ahead of the times of showing, seconds: some mp4 do, and muxers refuse it."""


@dataclass(frozen=True, slots=True)
class _Times:
    shown: float
    decoded: float
    lasts: float
    keyframe: bool
    hidden: bool


def first_moment(path: str) -> float:
    """The first frame's time on the file's clock, seconds; 0 where it keeps none."""
    with frames_before(path, 0.0) as found:
        return found.zero


def part_of(path: str, zero: float, start: float, end: float, before: float = inf) -> Part:
    """The packets that show a span, from the last keyframe up to its first frame that is shown earlier than `before`.

    Raises:
        MediaError: "span", it holds no frame; "transcode", there is no such keyframe, or packets have no times.
    """
    sought = None if start <= 0 else zero + min(start + TICK, before - TICK)
    while True:
        with open_video(path) as (source, stream):
            if sought is not None:
                key = _keyframe_before(source, stream, sought)
                if key is None or key > sought:
                    sought = None
                    continue
            times = _times(packets_at(source, stream, sought), stream, zero, end)
        part = _choose(times, sought, zero, start, end, before)
        if part is not None:
            return part
        if sought is None:
            raise MediaError("transcode", "no keyframe lies before the span")
        sought = None


def ahead_of(path: str) -> float:
    """`Part.ahead` of a whole video.

    Raises:
        MediaError: "transcode", packets have no times.
    """
    with open_video(path) as (source, stream):
        times = _times(packets_of(source, stream), stream, 0.0, inf)
    return max(0.0, *(time.decoded - time.shown for time in times))


def packets_at(source: InputContainer, stream: VideoStream, sought: float | None) -> Iterator[Any]:
    """The packets that `Part` counts."""
    if sought is not None:
        _seek(source, stream, sought)
    return packets_of(source, stream)


def _times(packets: Iterator[Any], stream: VideoStream, zero: float, end: float) -> list[_Times]:
    """When each packet is shown, up to a keyframe that is decoded after `end`: nothing earlier follows it."""
    times: list[_Times] = []
    step = float(1 / stream.average_rate) if stream.average_rate else 0.0
    for packet in packets:
        if packet.pts is None and packet.dts is None:
            codec = stream.codec_context.codec.canonical_name
            raise MediaError("transcode", f"bare {codec} without times; --preset train-cpu gives it some")
        shown, decoded = (
            float((first if other is None else other) * packet.time_base) - zero
            for first, other in ((packet.dts, packet.pts), (packet.pts, packet.dts))
        )
        lasts = float(packet.duration * packet.time_base) if packet.duration else step
        times.append(_Times(shown, decoded, lasts, packet.is_keyframe, packet.is_discard))
        check_count(len(times))
        if packet.is_keyframe and decoded >= end:
            break
    return times


def _choose(
    times: list[_Times], sought: float | None, zero: float, start: float, end: float, before: float
) -> Part | None:
    """The part of what was read; None where no keyframe of it will do."""
    inside = [place for place, time in enumerate(times) if not time.hidden and start <= time.shown < end]
    if not inside:
        raise MediaError("span", f"no frame lies between {start} s and {end} s")
    wanted = min(times[place].shown for place in inside)
    keys = [p for p, time in enumerate(times) if time.keyframe and time.shown <= wanted and time.shown < before]
    if not keys:
        return None
    first = keys[-1]
    last = _closed(times, first, max(first, inside[-1]))
    taken = times[first : last + 1]
    until = max(time.shown + time.lasts for time in taken)
    ahead = max(0.0, *(time.decoded - time.shown for time in taken))
    return Part(sought, first, last, zero, wanted, times[first].shown, until, ahead)


def _closed(times: list[_Times], first: int, last: int) -> int:
    """The first place from `last` on after which nothing follows that is shown among what came before."""
    shown = [time.shown for time in times[first:]]
    latest = list(accumulate(shown, max))
    soonest = list(accumulate(reversed([*shown[1:], inf]), min))[::-1]
    return next((place for place in range(last, len(times)) if latest[place - first] < soonest[place - first]), last)
