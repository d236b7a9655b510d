"""The training form of a clip. Runs inside the sandbox's child process; the bytes depend on input and options alone."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from typing import Any

import av
import av.error
import av.filter
from av.container import InputContainer, OutputContainer
from av.video.frame import PictureType, VideoFrame
from av.video.stream import VideoStream

from . import limits
from .errors import MediaError
from .limits import believable_aspect
from .probe import decode_error, frames_of, open_video, packet_table, probe, upright_turn, words

JPEG_QUANTISER = 4  # FFmpeg's qscale, 2 best to 31 worst
LAMBDA_PER_QUANTISER = 118  # FF_QP2LAMBDA
# What training reads anyway: constant rate, upright, square pixels. `bitexact` keeps random ids and versions out.
MUX_OPTIONS = {"fflags": "+bitexact"}
TURNS = {0: "", 90: "transpose=clock,", 180: "hflip,vflip,", 270: "transpose=cclock,"}


def to_intra(
    path: str, out: str, *, short_side: int, start_seconds: float | None = None, end_seconds: float | None = None
) -> dict[str, Any]:
    """Write a video, or a span of it, as all-intra MJPEG 4:2:0 in Matroska: every frame decodes on its own.

    A video whose size changes on the way is scaled to the size of its first frame.

    Args:
        path: a video that was probed with every frame decoded.
        out: where the .mkv goes.
        short_side: of the written frames, pixels, even; smaller videos keep their size.
        start_seconds: start of the span; None is the start of the video.
        end_seconds: end of the span, exclusive; None is the end of the video.

    Returns:
        What `probe` finds in the written file, and its `packets`.

    Raises:
        MediaError: a frame does not decode, the span holds none ("span"), or a constant rate would repeat its frames
            more often than `limits` allow.
    """
    with open_video(path) as (source, stream), _matroska(out, "does not become JPEGs") as sink:
        rate = stream.average_rate or stream.guessed_rate or Fraction(25)
        writer: _IntraWriter | None = None
        for frame in _span(_decoded(source, stream), stream, rate, start_seconds, end_seconds):
            if writer is None:
                writer = _IntraWriter(sink, frame, stream, rate, short_side)
            writer.push(frame)
        if writer is None:
            raise MediaError("span", f"no frame lies between {start_seconds} s and {end_seconds} s")
        writer.close()
    return _facts(out)


def remux(path: str, out: str) -> dict[str, Any]:
    """Copy the video stream into Matroska without re-encoding; returns what `probe` finds there, and its `packets`.

    Raises:
        MediaError: Matroska does not take the codec, or packets without times.
    """
    with open_video(path) as (source, stream), _matroska(out, "does not remux to Matroska") as sink:
        codec = stream.codec_context.codec.canonical_name
        try:
            # by the decoder's description (opaque): there need be no encoder for what is copied
            copy = sink.add_stream_from_template(stream, opaque=True)
        except ValueError:
            raise MediaError("transcode", f"Matroska does not take {codec}; --preset train-cpu re-encodes it") from None
        clock = _Clock()
        for packet in _packets(source, stream):
            if packet.pts is None and packet.dts is None:
                raise MediaError("transcode", f"bare {codec} without times; --preset train-cpu gives it some")
            clock.set(packet)
            packet.stream = copy
            sink.mux(packet)
    return _facts(out)


def _packets(source: InputContainer, stream: VideoStream) -> Iterator[Any]:
    try:
        for packet in source.demux(stream):
            if packet.size:
                yield packet
    except av.error.FFmpegError as error:
        raise MediaError("damaged", f"does not read to its end: {words(error)}") from None


class _Clock:
    """Sets packets forward where their decoding times stand still or jump back, which Matroska does not take."""

    def __init__(self) -> None:
        self._shift, self._last, self._step = 0, None, 1

    def set(self, packet: Any) -> None:
        """Move one packet, in decode order."""
        if packet.dts is not None:
            packet.dts += self._shift
            if self._last is not None and packet.dts <= self._last:
                forward = self._last + self._step - packet.dts
                self._shift += forward
                packet.dts += forward
            self._last, self._step = packet.dts, max(1, packet.duration or 1)
        if packet.pts is not None:
            packet.pts += self._shift


def _facts(out: str) -> dict[str, Any]:
    facts = probe(out, "packets")
    return facts | {"packets": packet_table(out, facts["frames"])}


@contextmanager
def _matroska(out: str, failure: str) -> Iterator[OutputContainer]:
    """A file to write; tells what the medium did from what the disk did: only the latter stays an OSError."""
    sink = av.open(out, "w", format="matroska", options=MUX_OPTIONS)
    try:
        yield sink
        sink.close()  # what is buffered is written here
    except av.error.FFmpegError as error:
        if error.errno == errno.EFBIG:
            raise MediaError("limit", f"its copy would hold more than {limits.MAX_WRITTEN_BYTES} bytes") from None
        if isinstance(error, MemoryError):
            raise MediaError("limit", f"{failure}: needs more memory than one video may take") from None
        if isinstance(error, OSError):
            raise
        raise MediaError("transcode", f"{failure}: {words(error)}") from None
    finally:
        with suppress(av.error.FFmpegError):
            sink.close()


def _decoded(source: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
    try:
        yield from frames_of(source, stream)
    except av.error.FFmpegError as error:
        raise decode_error(error, "a frame") from None


def _span(
    frames: Iterator[VideoFrame], stream: VideoStream, rate: Fraction, start: float | None, end: float | None
) -> Iterator[VideoFrame]:
    """The frames of the span, each later than the one before.

    A bare stream has no times and gets those of its rate. Where a clock stands still or jumps back, as after a cut in a
    broadcast, it goes on from there with the time between two frames.
    """
    base = stream.time_base or 1 / rate
    step, shift, last = max(1, round(1 / rate / base)), 0, None
    for number, frame in enumerate(frames):
        if frame.pts is None:
            frame.time_base, frame.pts = base, number * step
        if end is not None and frame.time >= end:
            return
        if start is not None and frame.time < start:
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


class _IntraWriter:
    """Frames of any size and clock → MJPEG of one size at a constant rate."""

    def __init__(self, sink: Any, first: VideoFrame, stream: VideoStream, rate: Fraction, short_side: int) -> None:
        self._sink, self._rate = sink, rate
        self._read = self._written = 0
        turn = upright_turn(first)
        aspect = believable_aspect(stream.sample_aspect_ratio)
        wide, high = output_size(first.width, first.height, aspect, turn, short_side)
        flags = "bicubic+accurate_rnd+full_chroma_int+bitexact"
        chain = f"{TURNS[turn]}fps={rate},scale={wide}:{high}:flags={flags}:out_range=pc,setsar=1,format=yuvj420p"
        self._graph = av.filter.Graph()
        source = self._graph.add_buffer(
            width=first.width, height=first.height, format=first.format, time_base=stream.time_base or 1 / rate
        )
        nodes = [source]
        nodes += [self._graph.add(*step.split("=", 1)) for step in chain.split(",")]
        nodes.append(self._graph.add("buffersink"))
        self._graph.link_nodes(*nodes).configure()
        quality = str(JPEG_QUANTISER * LAMBDA_PER_QUANTISER)
        options = {"flags": "+qscale+bitexact", "global_quality": quality}
        self._encoder = sink.add_stream("mjpeg", rate=rate, options=options)
        self._encoder.width, self._encoder.height, self._encoder.pix_fmt = wide, high, "yuvj420p"
        self._encoder.time_base = 1 / rate
        self._encoder.thread_count = 1

    def push(self, frame: VideoFrame | None) -> None:
        """Take a frame; None is the end."""
        self._read += frame is not None
        self._graph.push(frame)
        while (ready := self._pull()) is not None:
            self._written += 1
            self._check_repeats()
            ready.pict_type = PictureType.NONE
            self._sink.mux(self._encoder.encode(ready))

    def close(self) -> None:
        """Write what is left."""
        self.push(None)
        if not self._written:
            raise MediaError("transcode", f"no frame is left at a constant rate of {self._rate} per second")
        self._sink.mux(self._encoder.encode(None))

    def _pull(self) -> VideoFrame | None:
        try:
            frame = self._graph.pull()
        except (av.error.BlockingIOError, av.error.EOFError):
            return None
        assert isinstance(frame, VideoFrame)
        return frame

    def _check_repeats(self) -> None:
        most = min(limits.MAX_PACKETS, self._read * limits.MAX_REPEATS + limits.FREE_REPEATS)
        if self._written > most:
            fps = f"{float(self._rate):g}"
            raise MediaError("limit", f"{self._read} frames must fill at most {most} at a constant {fps} per second")
