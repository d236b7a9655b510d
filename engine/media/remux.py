"""Copies without re-encoding: a whole video, or the stretch of it around a span. Runs inside the sandbox's child."""

from functools import partial
from itertools import islice
from math import inf
from typing import Any

from av.container import OutputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from ..config import Validate
from ..errors import MediaError
from .mux import Clock, packets_of, shift, written
from .probe import probe
from .sound import Sound, sound_of
from .span import Part, ahead_of, first_moment, packets_at, part_of
from .video import open_video

KEYFRAMES_TRIED = 4
ROUNDING = 0.002  # Matroska keeps milliseconds
WHAT_FAILS = "does not remux to Matroska"


def remux(path: str, out: str, *, audio: bool = True) -> dict[str, Any]:
    """Copy the video, and the first sound track if wanted, into Matroska.

    Returns:
        What `probe` finds there, and its `packets`.

    Raises:
        MediaError: Matroska does not take a codec, or packets without times.
    """
    with (
        open_video(path) as (source, stream),
        sound_of(path, audio) as sound,
        written(out, "matroska", WHAT_FAILS) as sink,
    ):
        copy = _copy_of(sink, stream)
        if sound is not None:
            sound.begin(sink)
        clock, ahead = Clock(), ahead_of(path) if "mp4" in source.format.name else 0.0
        for packet in packets_of(source, stream):
            if packet.pts is None and packet.dts is None:
                codec = stream.codec_context.codec.canonical_name
                raise MediaError("transcode", f"bare {codec} without times; --preset train-cpu gives it some")
            shift(packet, 0.0, ahead)
            clock.set(packet)
            _mux(sink, copy, packet, sound)
        if sound is not None:
            sound.write(sink, None)
    return probe(out, "packets", table=True)


def copy_span(
    path: str, out: str, *, start_seconds: float | None, end_seconds: float | None, audio: bool, validate: Validate
) -> dict[str, Any]:
    """Copy what shows a span into Matroska, from the keyframe at or before its first frame.

    Its frames come out as they come out of the source, bit for bit, after those from the keyframe on. At the end there
    may be a few more, which the span's own frames need or which would leave a gap. What is shown before the keyframe
    and needs what lies before it (an open group of pictures) is left out. With `validate` "decode" the copy is held to
    that, and a keyframe from which the picture only builds up (gradual refresh) gives way to the one before it.

    Args:
        path: a video that was probed.
        out: where the .mkv goes.
        start_seconds: after the first frame of the video; None is that frame.
        end_seconds: likewise, exclusive; None is the end of the video.
        audio: whether the first sound track is copied too.
        validate: how much of the copy must hold.

    Returns:
        What `probe` finds in the copy, its `packets`, and where it truly begins and ends: `start_seconds`,
        `end_seconds`.

    Raises:
        MediaError: the span holds no frame ("span"), a codec that Matroska does not take, or no copy that decodes.
    """
    start, end = start_seconds or 0.0, inf if end_seconds is None else end_seconds
    zero, before, failure = first_moment(path), inf, "damaged"
    for _ in range(KEYFRAMES_TRIED):
        part = part_of(path, zero, start, end, before)
        _copy_part(path, out, part, audio)
        moments: list[float] = []
        try:
            facts = probe(out, validate, partial(_note, moments), table=True)
        except MediaError as error:
            failure = error.detail
        else:
            late = moments[0] if moments else 0.0
            if part.start + late <= part.wanted + ROUNDING:
                begin = part.start + (late if late > ROUNDING else 0.0)
                return facts | {"start_seconds": round(begin, 6), "end_seconds": round(part.end, 6)}
            failure = "the first frame of the span does not come out"
        if part.first == 0 and part.sought is None:
            break
        before = part.start
    raise MediaError("transcode", f"no copy from a keyframe decodes: {failure}; --preset train-cpu cuts anywhere")


def _note(moments: list[float], frame: VideoFrame) -> None:
    """Keep the time of the first frame."""
    if not moments and frame.time is not None:
        moments.append(frame.time)


def _copy_part(path: str, out: str, part: Part, audio: bool) -> None:
    with (
        open_video(path) as (source, stream),
        sound_of(path, audio) as sound,
        written(out, "matroska", WHAT_FAILS) as sink,
    ):
        copy = _copy_of(sink, stream)
        if sound is not None:
            sound.begin(sink, part.zero + part.start, part.zero + part.end)
        clock, first_shown = Clock(), None
        for packet in islice(packets_at(source, stream, part.sought), part.first, part.last + 1):
            shown = packet.dts if packet.pts is None else packet.pts
            first_shown = shown if first_shown is None else first_shown
            if shown < first_shown:
                continue
            shift(packet, -(part.zero + part.start), part.ahead)
            clock.set(packet)
            _mux(sink, copy, packet, sound)
        if sound is not None:
            sound.write(sink, None)


def _copy_of(sink: OutputContainer, stream: VideoStream) -> Any:
    try:
        # by the decoder's description (opaque): there need be no encoder for what is copied
        return sink.add_stream_from_template(stream, opaque=True)
    except ValueError:
        codec = stream.codec_context.codec.canonical_name
        raise MediaError("transcode", f"Matroska does not take {codec}; --preset train-cpu re-encodes it") from None


def _mux(sink: OutputContainer, copy: Any, packet: Any, sound: Sound | None) -> None:
    """Write a packet after the sound that comes before it."""
    if sound is not None and packet.dts is not None:
        sound.write(sink, float(packet.dts * packet.time_base))
    packet.stream = copy
    sink.mux(packet)
