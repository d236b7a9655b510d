"""The encoders of the training forms, and the settings that their bytes depend on."""

import errno
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av.error
from av.container import OutputContainer
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame

from ...shards.errors import UsageError
from ..clip_config import ClipConfig
from ..clip_config import Encoder as EncoderName
from .video import words

JPEG_QUANTISER = 4  # FFmpeg's qscale, 2 best to 31 worst
LAMBDA_PER_QUANTISER = 118  # FF_QP2LAMBDA
X264_CRF = 20
NVENC_QUANTISER = 22


@dataclass(frozen=True, slots=True)
class Encoder:
    """An encoder of FFmpeg with its settings."""

    codec: str
    """FFmpeg's name."""
    pix_fmt: str
    sws_range: str
    """Range of the levels that it is given, as FFmpeg's scale filter calls it."""
    container: str
    """FFmpeg's name of the muxer of its form."""
    options: Mapping[str, str]

    def open(self, sink: OutputContainer, first: VideoFrame, rate: Fraction) -> Any:
        """Its stream in a file, open, for pictures like the first.

        Raises:
            av.error.FFmpegError: it does not open.
            OSError: ENODEV, there is no device for it here.
        """
        stream: Any = sink.add_stream(self.codec, rate=rate, options=dict(self.options))
        _set_up(stream.codec_context, self, first.width, first.height, rate)
        stream.codec_context.colorspace = first.colorspace
        stream.codec_context.color_range = first.color_range
        _open(stream.codec_context, self.codec)
        return stream


def jpegs() -> Encoder:
    """Every frame on its own: 4:2:0, full range."""
    quality = str(JPEG_QUANTISER * LAMBDA_PER_QUANTISER)
    options = {"flags": "+qscale+bitexact", "global_quality": quality}
    return Encoder("mjpeg", "yuvj420p", "pc", "matroska", options)


def h264(gop_frames: int, encoder: EncoderName) -> Encoder:
    """Closed groups of `gop_frames` pictures without B-frames: stored in the order in which they are shown.

    Args:
        gop_frames: from one keyframe to the next, > 0.
        encoder: "software" is x264 on one thread.
    """
    shared = {"g": str(gop_frames), "bf": "0"}
    if encoder == "nvenc":
        options = {"preset": "p4", "rc": "constqp", "qp": str(NVENC_QUANTISER), "no-scenecut": "1", "forced-idr": "1"}
        return Encoder("h264_nvenc", "yuv420p", "tv", "mp4", shared | options | {"flags": "+cgop+bitexact"})
    exact = f"keyint={gop_frames}:min-keyint={gop_frames}:scenecut=0:threads=1:lookahead-threads=1"
    options = {"preset": "veryfast", "crf": str(X264_CRF), "threads": "1", "x264-params": exact}
    return Encoder("libx264", "yuv420p", "tv", "mp4", shared | options | {"flags": "+cgop+bitexact"})


def check_encoder(config: ClipConfig) -> None:
    """The encoder that is asked for is there; opens it, and so touches the GPU where one is asked for.

    Raises:
        UsageError: it does not open.
    """
    if config.preset != "train-gpu" or config.encoder == "software":
        return
    encoder = h264(config.gop_frames, config.encoder)
    codec: Any = VideoCodecContext.create(encoder.codec, "w")
    codec.options = dict(encoder.options)
    _set_up(codec, encoder, config.short_side, config.short_side, Fraction(25))
    try:
        _open(codec, encoder.codec)
    except OSError as error:
        raise UsageError(f"encoder must be one that opens here, got {config.encoder}: {error.strerror}") from None


def _set_up(codec: Any, encoder: Encoder, width: int, height: int, rate: Fraction) -> None:
    codec.width, codec.height, codec.pix_fmt = width, height, encoder.pix_fmt
    codec.time_base, codec.framerate = 1 / rate, rate
    codec.thread_count = 1


def _open(codec: Any, name: str) -> None:
    try:
        codec.open()
    except av.error.FFmpegError as error:
        if name != "h264_nvenc":
            raise
        # told apart from what the medium or the disk does: no other input would fare better
        raise OSError(errno.ENODEV, f"{name} finds no GPU with an encoder ({words(error)})") from None
