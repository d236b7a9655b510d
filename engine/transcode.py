"""The training form of a clip. Runs inside the sandbox's child process; the bytes depend on input and options alone."""

from fractions import Fraction
from typing import Any

import av
import av.error
import av.filter
from av.container import InputContainer
from av.video.frame import PictureType, VideoFrame
from av.video.stream import VideoStream

from .errors import MediaError
from .probe import open_video, packet_table, probe

JPEG_QUANTISER = 4  # FFmpeg's qscale, 2 best to 31 worst
LAMBDA_PER_QUANTISER = 118  # FF_QP2LAMBDA
# What training reads anyway: constant rate, upright, square pixels. `bitexact` keeps random ids and versions out.
MUX_OPTIONS = {"fflags": "+bitexact"}
TURNS = {0: "", 90: "transpose=clock,", 180: "hflip,vflip,", 270: "transpose=cclock,"}


def to_intra(
    path: str, out: str, *, short_side: int, start_seconds: float | None = None, end_seconds: float | None = None
) -> dict[str, Any]:
    """Write a video, or a span of it, as all-intra MJPEG 4:2:0 in Matroska: every frame decodes on its own.

    Args:
        path: a video that was probed with every frame decoded.
        out: where the .mkv goes.
        short_side: of the written frames, pixels, even; smaller videos keep their size.
        start_seconds: start of the span; None is the start of the video.
        end_seconds: end of the span, exclusive; None is the end of the video.

    Returns:
        What `probe` finds in the written file, and its `packets`.

    Raises:
        MediaError: a frame does not decode, or the span holds none ("span").
    """
    with open_video(path) as (source, stream), av.open(out, "w", format="matroska", options=MUX_OPTIONS) as sink:
        rate = stream.average_rate or stream.guessed_rate or Fraction(25)
        encoder: Any = None
        graph: Any = None
        for frame in _span(source, stream, start_seconds, end_seconds):
            if graph is None:
                graph = _filters(frame, stream, rate, short_side)
            graph.push(frame)
            encoder = _drain(graph, sink, encoder, rate)
        if graph is None:
            raise MediaError("span", f"no frame lies between {start_seconds} s and {end_seconds} s")
        graph.push(None)
        encoder = _drain(graph, sink, encoder, rate)
        sink.mux(encoder.encode(None))
    return _facts(out)


def remux(path: str, out: str) -> dict[str, Any]:
    """Copy the video stream into Matroska without re-encoding; returns what `probe` finds there, and its `packets`."""
    with open_video(path) as (source, stream), av.open(out, "w", format="matroska", options=MUX_OPTIONS) as sink:
        copy = sink.add_stream_from_template(stream)
        try:
            for packet in source.demux(stream):
                if packet.size:
                    packet.stream = copy
                    sink.mux(packet)
        except av.error.FFmpegError as error:
            raise MediaError("transcode", f"does not remux to Matroska: {error.strerror}") from None
    return _facts(out)


def _facts(out: str) -> dict[str, Any]:
    facts = probe(out, "packets")
    return facts | {"packets": packet_table(out, facts["frames"])}


def _span(source: InputContainer, stream: VideoStream, start: float | None, end: float | None) -> Any:
    try:
        for frame in source.decode(stream):
            if frame.time is not None and end is not None and frame.time >= end:
                return
            if frame.time is None or start is None or frame.time >= start:
                yield frame
    except av.error.FFmpegError as error:
        raise MediaError("transcode", f"does not decode: {error.strerror}") from None


def output_size(width: int, height: int, pixel_aspect: float, rotation: int, short_side: int) -> tuple[int, int]:
    """Upright (width, height) of the training form, even, with square pixels, never enlarged."""
    wide, high = width * pixel_aspect, float(height)
    if rotation in (90, 270):
        wide, high = high, wide
    scale = min(1.0, short_side / min(wide, high))
    return max(2, 2 * round(wide * scale / 2)), max(2, 2 * round(high * scale / 2))


def _filters(frame: VideoFrame, stream: VideoStream, rate: Fraction, short_side: int) -> av.filter.Graph:
    aspect = float(stream.sample_aspect_ratio or 1) or 1.0
    rotation = -int(frame.rotation) % 360
    wide, high = output_size(frame.width, frame.height, aspect, rotation, short_side)
    chain = (
        f"{TURNS.get(rotation, '')}fps={rate},"
        f"scale={wide}:{high}:flags=bicubic+accurate_rnd+full_chroma_int+bitexact:out_range=pc,setsar=1,format=yuvj420p"
    )
    graph = av.filter.Graph()
    nodes = [graph.add_buffer(template=stream)]
    for step in chain.split(","):
        name, _, arguments = step.partition("=")
        nodes.append(graph.add(name, arguments))
    nodes.append(graph.add("buffersink"))
    graph.link_nodes(*nodes).configure()
    return graph


def _drain(graph: av.filter.Graph, sink: Any, encoder: Any, rate: Fraction) -> Any:
    """Encode what the filters have ready; the encoder is made when the first frame tells its size."""
    while True:
        try:
            frame = graph.pull()
        except (av.error.BlockingIOError, av.error.EOFError):
            return encoder
        assert isinstance(frame, VideoFrame)
        if encoder is None:
            quality = str(JPEG_QUANTISER * LAMBDA_PER_QUANTISER)
            options = {"flags": "+qscale+bitexact", "global_quality": quality}
            encoder = sink.add_stream("mjpeg", rate=rate, options=options)
            encoder.width, encoder.height, encoder.pix_fmt = frame.width, frame.height, "yuvj420p"
            encoder.time_base = 1 / rate
            encoder.thread_count = 1
        frame.pict_type = PictureType.NONE
        sink.mux(encoder.encode(frame))
