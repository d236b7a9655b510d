"""The training forms of a clip. Runs inside the sandbox's child; the bytes depend on input and options alone."""

from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import partial
from math import inf
from typing import Any

import av
import av.error
import av.filter
from av.container import OutputContainer
from av.video.frame import PictureType, VideoFrame
from av.video.stream import VideoStream

from ..clip_config import Encoder as EncoderName
from ..errors import MediaError
from . import limits
from .encoders import Encoder, h264, jpegs
from .limits import believable_aspect
from .mux import written
from .probe import probe
from .sound import Sound, sound_of
from .span import Frames, frames_before
from .video import upright_turn

# What training reads anyway: constant rate, upright, square pixels.
TURNS = {0: "", 90: "transpose=clock,", 180: "hflip,vflip,", 270: "transpose=cclock,"}
TREMBLING = Fraction(1, 4)  # of the time between two frames: Matroska's milliseconds, and cameras


def to_intra(path: str, out: str, **form: Any) -> dict[str, Any]:
    """Write a video, or a span of it, as all-intra MJPEG 4:2:0 in Matroska: every frame decodes on its own.

    See `_transcode` for the arguments besides `out`, the path of the .mkv.
    """
    return _transcode(path, out, jpegs(), **form)


def to_h264(path: str, out: str, *, gop_frames: int, encoder: EncoderName, **form: Any) -> dict[str, Any]:
    """Write a video, or a span of it, as H.264 4:2:0 in mp4, in closed groups of `gop_frames` frames without B-frames.

    See `_transcode` for the arguments besides `out`, the path of the .mp4, and `encoder`, "software" or "nvenc".
    """
    return _transcode(path, out, h264(gop_frames, encoder), **form)


def _transcode(
    path: str,
    out: str,
    encoder: Encoder,
    *,
    short_side: int,
    fps: float | None = None,
    audio: bool = False,
    start_seconds: float | None = None,
    end_seconds: float | None = None,
) -> dict[str, Any]:
    """Write the frames that are shown in a span, from time 0 on.

    A video whose size changes on the way is scaled to the size of its first frame.

    Args:
        path: a video that was probed with every frame decoded.
        out: where the file goes.
        encoder: of the form.
        short_side: of the written frames, pixels, even; smaller videos keep their size.
        fps: frames per second; None is the video's average.
        audio: whether the packets of the first sound track are copied beside the frames.
        start_seconds: start of the span, after the video's first frame; None is that frame.
        end_seconds: end of the span, exclusive; None is the end of the video.

    Returns:
        What `probe` finds in the written file, and its `packets`.

    Raises:
        MediaError: a frame does not decode, the span holds none ("span"), or a constant rate would repeat its frames
            more often than `limits` allow.
        OSError: the disk refused, or ENODEV: there is no device for the encoder.
    """
    start, end = -inf if start_seconds is None else start_seconds, inf if end_seconds is None else end_seconds
    failure = f"does not become {encoder.codec}"
    with (
        frames_before(path, start) as found,
        sound_of(path, audio) as sound,
        written(out, encoder.container, failure) as sink,
    ):
        own = found.stream.average_rate or found.stream.guessed_rate or Fraction(25)
        rate = own if fps is None else Fraction(fps).limit_denominator(limits.MAX_RATE_DENOMINATOR)
        repeats = limits.MAX_REPEATS * max(1.0, float(rate / own))
        writer: _Writer | None = None
        for frame in _span(found, own, start, end):
            if writer is None:
                pictures = _Pictures(encoder, frame, found.stream, rate, own, short_side)
                begin_sound = partial(_begin_sound, sound, sink, frame.time or 0.0, found.zero + end)
                writer = _Writer(sink, encoder, rate, pictures, repeats, begin_sound)
            writer.push(frame)
        if writer is None:
            raise MediaError("span", f"no frame lies between {start_seconds} s and {end_seconds} s")
        writer.close()
    return probe(out, "packets", table=True)


def _begin_sound(sound: Sound | None, sink: OutputContainer, start: float, end: float) -> Sound | None:
    if sound is not None:
        sound.begin(sink, start, end)
    return sound


def _span(found: Frames, rate: Fraction, start: float, end: float) -> Iterator[VideoFrame]:
    """The frames of the span, each later than the one before.

    A bare stream has no times and gets those of its rate. Where a clock stands still or jumps back, as after a cut in a
    broadcast, it goes on from there with the time between two frames.
    """
    base = found.stream.time_base or 1 / rate
    step, shift, last = max(1, round(1 / rate / base)), 0, None
    for number, frame in enumerate(found.frames):
        if frame.pts is None:
            frame.time_base, frame.pts = base, number * step
        if frame.time - found.zero >= end:
            return
        if frame.time - found.zero < start:
            continue
        frame.pts += shift
        if last is not None and frame.pts <= last:
            shift += last + step - frame.pts
            frame.pts = last + step
        last = frame.pts
        frame.duration = frame.duration or step  # else the last one lasts no time and is dropped
        yield frame


def output_size(width: int, height: int, pixel_aspect: float, rotation: int, short_side: int) -> tuple[int, int]:
    """Upright (width, height) of the training form, even, with square pixels, never enlarged."""
    wide, high = width * pixel_aspect, float(height)
    if rotation in (90, 270):
        wide, high = high, wide
    scale = min(1.0, short_side / min(wide, high))
    return max(2, 2 * round(wide * scale / 2)), max(2, 2 * round(high * scale / 2))


class _Pictures:
    """Frames of any size, clock and orientation → pictures of one size at a constant rate, the first at time 0."""

    def __init__(
        self, encoder: Encoder, first: VideoFrame, stream: VideoStream, rate: Fraction, own: Fraction, side: int
    ) -> None:
        turn = upright_turn(first)
        aspect = believable_aspect(stream.sample_aspect_ratio)
        wide, high = output_size(first.width, first.height, aspect, turn, side)
        # the matrix of JPEGs, and what decoders take for granted that do not look for one
        levels = f"out_range={encoder.sws_range}:out_color_matrix=bt601"
        flags = "bicubic+accurate_rnd+full_chroma_int+bitexact"
        clock = f"fps={rate}" if rate == own else f"fps={rate}:round=up"
        chain = f"{TURNS[turn]}{clock},scale={wide}:{high}:flags={flags}:{levels},setsar=1,format={encoder.pix_fmt}"
        self._graph = av.filter.Graph()
        base = first.time_base or 1 / rate
        source = self._graph.add_buffer(width=first.width, height=first.height, format=first.format, time_base=base)
        nodes = [source]
        nodes += [self._graph.add(*step.split("=", 1)) for step in chain.split(",")]
        nodes.append(self._graph.add("buffersink"))
        self._graph.link_nodes(*nodes).configure()
        # at another rate each picture is the one that is shown at its moment, or would be but for a trembling clock
        self._start = (first.pts or 0) + (0 if rate == own else int(TREMBLING / own / base))

    def push(self, frame: VideoFrame | None) -> Iterator[VideoFrame]:
        """Take a frame, None at the end; gives the pictures that are ready."""
        if frame is not None:
            frame.pts = (frame.pts or 0) - self._start
        self._graph.push(frame)
        while True:
            try:
                ready = self._graph.pull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return
            assert isinstance(ready, VideoFrame)
            ready.pict_type = PictureType.NONE
            yield ready


class _Writer:
    """Frames → an encoded file, with the sound beside them."""

    def __init__(
        self,
        sink: OutputContainer,
        encoder: Encoder,
        rate: Fraction,
        pictures: _Pictures,
        most_repeats: float,
        begin_sound: Callable[[], Sound | None],
    ) -> None:
        self._sink, self._encoder, self._rate, self._pictures = sink, encoder, rate, pictures
        self._most_repeats, self._begin_sound = most_repeats, begin_sound
        self._read = self._written = 0
        self._stream: Any = None
        self._sound: Sound | None = None

    def push(self, frame: VideoFrame | None) -> None:
        """Take a frame; None is the end."""
        self._read += frame is not None
        for picture in self._pictures.push(frame):
            if self._stream is None:
                self._stream = self._encoder.open(self._sink, picture, self._rate)
                self._sound = self._begin_sound()
            self._written += 1
            self._check_repeats()
            self._mux(self._stream.encode(picture))

    def close(self) -> None:
        """Write what is left."""
        self.push(None)
        if self._stream is None:
            raise MediaError("transcode", f"no frame is left at a constant rate of {self._rate} per second")
        self._mux(self._stream.encode(None))
        if self._sound is not None:
            self._sound.write(self._sink, None)

    def _mux(self, packets: list[Any]) -> None:
        for packet in packets:
            if self._sound is not None:
                self._sound.write(self._sink, float(packet.dts * packet.time_base))
            self._sink.mux(packet)

    def _check_repeats(self) -> None:
        most = min(limits.MAX_PACKETS, int(self._read * self._most_repeats) + limits.FREE_REPEATS)
        if self._written > most:
            fps = f"{float(self._rate):g}"
            raise MediaError("limit", f"{self._read} frames must fill at most {most} at a constant {fps} per second")
