"""Small real videos in memory, encoded on one thread, the same bytes every time."""

import io
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from fractions import Fraction
from functools import partial
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from av.codec.context import Flags

from .kinds import OK, Draw, Kind, Outcome, made

WIDTH, HEIGHT, FRAMES, RATE = 64, 48, 24, 12
SAMPLE_RATE = 16000
ONE_THREAD = {
    "libx264": {"threads": "1"},
    "libx264rgb": {"threads": "1"},
    "libx265": {"x265-params": "pools=none:frame-threads=1:log-level=none"},
    "libvpx": {"threads": "1", "deadline": "realtime"},
    "libvpx-vp9": {"threads": "1", "deadline": "realtime"},
    "libsvtav1": {"preset": "12", "svtav1-params": "lp=1"},
}

Picture = npt.NDArray[np.uint8]


def picture(draw: Draw, index: int, width: int, height: int) -> Picture:
    """(height, width, 3) uint8: grain over a ramp that moves with the index, so that no packet is nearly empty."""
    grain = np.frombuffer(draw.random.randbytes(width * height * 3), np.uint8).reshape(height, width, 3) // 4
    ramp = (np.arange(width) * 160 // max(1, width) + index * 7 + draw.number) % 160
    return (np.roll(grain, index * 3, axis=1) + ramp[None, :, None]).astype(np.uint8)


def encode(
    draw: Draw,
    *,
    codec: str = "libx264",
    container: str = "mp4",
    frames: int = FRAMES,
    size: tuple[int, int] = (WIDTH, HEIGHT),
    rate: int = RATE,
    pix_fmt: str = "yuv420p",
    options: dict[str, str] | None = None,
    mux: dict[str, str] | None = None,
    pts: Callable[[int], int] | None = None,
    audio_seconds: float = 0.0,
    set_up: Callable[[Any], None] | None = None,
) -> bytes:
    """A video of moving pictures.

    Args:
        draw: names the pictures.
        codec: FFmpeg's name of the encoder.
        container: FFmpeg's name of the muxer.
        frames: how many pictures.
        size: (width, height), pixels.
        rate: frames per second.
        pix_fmt: of the encoded pictures.
        options: of the encoder.
        mux: of the muxer.
        pts: picture index → presentation time in 1/rate seconds; by default the index.
        audio_seconds: length of a sound track, 0 for none.
        set_up: called with the video stream before the first picture.
    """
    file = io.BytesIO()
    with (
        _silence() if codec == "libsvtav1" else nullcontext(),
        av.open(file, "w", format=container, options={"fflags": "+bitexact"} | (mux or {})) as sink,
    ):
        stream: Any = sink.add_stream(codec, rate=rate, options=ONE_THREAD.get(codec, {}) | (options or {}))
        stream.width, stream.height, stream.pix_fmt = *size, pix_fmt
        stream.codec_context.time_base = Fraction(1, rate)
        stream.codec_context.flags |= Flags.bitexact
        stream.thread_count = 1
        if set_up is not None:
            set_up(stream)
        if not frames:
            sink.start_encoding()
        sound: Any = sink.add_stream("aac", rate=SAMPLE_RATE, layout="mono") if audio_seconds else None
        if sound is not None:
            sound.codec_context.flags |= Flags.bitexact
            for packet in _sound(sound, audio_seconds):
                sink.mux(packet)
        for index in range(frames):
            frame = av.VideoFrame.from_ndarray(picture(draw, index, *size), format="rgb24")
            frame.pts, frame.time_base = index if pts is None else pts(index), Fraction(1, rate)
            sink.mux(stream.encode(frame))
        sink.mux(stream.encode(None))
    return file.getvalue()


@contextmanager
def _silence() -> Iterator[None]:
    """SVT-AV1 greets on the error stream, past every log level."""
    kept, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nothing, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)


def encoded(
    name: str, file: str, why: str, expect: Outcome = OK, unless: Mapping[str, Outcome] | None = None, **how: Any
) -> Kind:
    """A kind that is a plain file with what `encode` makes of these options."""
    return made(name, file, why, partial(encode, **how), expect, unless)


def _sound(stream: Any, seconds: float) -> list[Any]:
    packets: list[Any] = []
    for start in range(0, int(seconds * SAMPLE_RATE), 1024):
        wave = np.sin(np.arange(start, start + 1024, dtype=np.float32) / 20)[None]
        frame = av.AudioFrame.from_ndarray(wave.astype(np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.pts = SAMPLE_RATE, start
        packets += stream.encode(frame)
    packets += stream.encode(None)
    return packets


def sound_only(container: str) -> bytes:
    """Two seconds of sound without a picture."""
    file = io.BytesIO()
    with av.open(file, "w", format=container, options={"fflags": "+bitexact"}) as sink:
        stream: Any = sink.add_stream("aac", rate=SAMPLE_RATE, layout="mono")
        stream.codec_context.flags |= Flags.bitexact
        for packet in _sound(stream, 2.0):
            sink.mux(packet)
    return file.getvalue()


def rewrap(parts: Sequence[bytes], container: str, *, retime: Callable[[int, Any], None] | None = None) -> bytes:
    """The same compressed packets in another container, one video after the other in one track.

    Args:
        parts: videos of one codec.
        container: FFmpeg's name of the muxer.
        retime: called with the running number and the packet before it is written.
    """
    file = io.BytesIO()
    with ExitStack() as stack:
        sources = [stack.enter_context(av.open(io.BytesIO(part), "r")) for part in parts]
        sink = stack.enter_context(av.open(file, "w", format=container, options={"fflags": "+bitexact"}))
        copy: Any = sink.add_stream_from_template(sources[0].streams.video[0])
        number, shift = 0, 0
        for source in sources:
            end = shift
            for packet in source.demux(source.streams.video[0]):
                if not packet.size:
                    continue
                if packet.pts is not None and packet.dts is not None:
                    packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                    end = max(end, packet.pts + (packet.duration or 0))
                if retime is not None:
                    retime(number, packet)
                packet.stream = copy
                sink.mux(packet)
                number += 1
            shift = end
    return file.getvalue()


def packets_of(data: bytes) -> Sequence[tuple[int, int]]:
    """(offset, size) of every video payload in a file, in decode order."""
    places, start = [], 0
    with av.open(io.BytesIO(data), "r") as source:
        for packet in source.demux(source.streams.video[0]):
            if packet.size:
                start = data.index(bytes(packet), max(packet.pos or 0, 0))
                places.append((start, packet.size))
    return places
