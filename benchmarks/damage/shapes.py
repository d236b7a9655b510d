"""Unusual sizes, pixel formats and orientations, and sizes that change on the way."""

from fractions import Fraction
from typing import Any

from .kinds import OK, Draw, Kind, made
from .media import encode, encoded, rewrap


def _turned(degrees: int) -> Kind:
    def set_up(stream: Any) -> None:
        stream.set_display_rotation(-degrees)

    why = f"Metadata asks the player to turn the picture by {degrees} degrees clockwise."
    return encoded(f"rotated-{degrees}", f"rotated-{degrees}.mp4", why, set_up=set_up)


def _anamorphic(stream: Any) -> None:
    stream.codec_context.sample_aspect_ratio = Fraction(16, 11)


def _resized_ts(draw: Draw) -> bytes:
    """Two H.264 streams of different size in one track, as a channel changes from SD to HD."""
    parts = [encode(draw, container="h264", size=size, options={"bf": "0"}) for size in ((64, 48), (96, 80))]

    def retime(number: int, packet: Any) -> None:
        packet.time_base, packet.pts, packet.dts = Fraction(1, 12), number, number

    return rewrap(parts, "mpegts", retime=retime)


def _resized_vp9(draw: Draw) -> bytes:
    """Two VP9 streams of different size in one track, as a video call changes its size."""
    sizes = ((64, 48), (96, 80))
    return rewrap([encode(draw, codec="libvpx-vp9", container="webm", size=size) for size in sizes], "webm")


KINDS = (
    encoded(
        "odd-size",
        "33x17.mp4",
        "An odd width and height with a chroma sample per pixel.",
        size=(33, 17),
        pix_fmt="yuv444p",
    ),
    encoded(
        "odd-size-420",
        "33x17.webm",
        "An odd width and height with a chroma sample per four pixels.",
        size=(33, 17),
        codec="libvpx-vp9",
        container="webm",
    ),
    encoded("one-pixel", "1x1.mp4", "One pixel.", size=(1, 1), pix_fmt="yuv444p"),
    encoded("two-pixels", "2x2.mp4", "Two by two pixels.", size=(2, 2)),
    encoded("ribbon", "1024x2.mp4", "512 times as wide as high.", size=(1024, 2)),
    encoded("yuv444", "444.mp4", "4:4:4 chroma.", pix_fmt="yuv444p"),
    encoded("yuv422", "422.mp4", "4:2:2 chroma.", pix_fmt="yuv422p"),
    encoded("ten-bit", "10-bit.mp4", "10 bits per sample.", pix_fmt="yuv420p10le"),
    encoded("gray", "gray.mp4", "No chroma.", pix_fmt="gray"),
    encoded("rgb", "rgb.mp4", "RGB, not YUV.", codec="libx264rgb", pix_fmt="rgb24"),
    encoded(
        "interlaced",
        "interlaced.mp4",
        "Two fields per frame.",
        options={"flags": "+ildct+ilme", "x264-params": "tff=1"},
    ),
    _turned(90),
    _turned(180),
    _turned(270),
    encoded("anamorphic", "anamorphic.mp4", "Pixels are wider than high.", set_up=_anamorphic),
    made(
        "resize-ts",
        "resize.ts",
        "The size changes on the way: the training form scales to the first size, the archive keeps the stream.",
        _resized_ts,
        OK,
    ),
    made("resize-vp9", "resize.webm", "The same inside one webm track.", _resized_vp9, OK),
)
