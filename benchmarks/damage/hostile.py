"""Files made to hurt: small ones that ask for gigabytes, tables that never end, headers that lie."""

import struct
from fractions import Fraction
from functools import partial
from typing import Any

from .kinds import DAMAGED, LIMIT, OK, UNREAD, Draw, made
from .media import encode, packets_of
from .surgery import box, every_packet, in_box, patched

HUGE = 16_000  # squared, just below what FFmpeg itself refuses


def _little(value: int) -> bytes:
    return value.to_bytes(2, "little")


def _vp8_bomb(draw: Draw) -> bytes:
    """Every keyframe claims the largest size; the container says 64x48."""
    data = encode(draw, codec="libvpx", container="webm", options={"g": "1"})
    return every_packet(data, {6: _little(HUGE) * 2})


def _jpeg_bomb(draw: Draw) -> bytes:
    data = encode(draw, codec="mjpeg", container="matroska", pix_fmt="yuvj420p")
    parts = data.split(b"\xff\xc0\x00\x11\x08")
    return parts[0] + b"".join(b"\xff\xc0\x00\x11\x08" + HUGE.to_bytes(2, "big") * 2 + part[4:] for part in parts[1:])


def _gif_bomb(draw: Draw) -> bytes:
    return patched(encode(draw, codec="gif", container="gif", pix_fmt="rgb8"), 6, _little(HUGE) * 2)


def _mp4_bomb(draw: Draw) -> bytes:
    """Only the container claims the size; the stream in it is small."""
    return in_box(encode(draw), b"avc1", 32, HUGE.to_bytes(2, "big") * 2)


def _vp8_grows(draw: Draw) -> bytes:
    """The tenth frame of a VP8 stream is a keyframe of the largest size."""
    data = encode(draw, codec="libvpx", container="webm", options={"g": "1"})
    return patched(data, packets_of(data)[10][0] + 6, _little(HUGE) * 2)


def _billion_frames(draw: Draw) -> bytes:
    """The table of sizes says: two billion frames of one byte."""
    return in_box(encode(draw), b"stsz", 12, (1).to_bytes(4, "big") + (2_000_000_000).to_bytes(4, "big"))


def _long_runs(draw: Draw) -> bytes:
    """The table of times says: one run of four billion frames."""
    return in_box(encode(draw), b"stts", 16, (0xFFFF_FFF0).to_bytes(4, "big"))


def _wide_pixels(stream: Any) -> None:
    stream.codec_context.sample_aspect_ratio = Fraction(65_535, 1)


def _turned_45(draw: Draw) -> bytes:
    turn = 46_341  # the sine of 45 degrees, 16.16 fixed point
    matrix = struct.pack(">9i", turn, turn, 0, -turn, turn, 0, 0, 0, 1 << 30)
    return in_box(encode(draw), b"tkhd", 48, matrix)


def _nested_boxes(draw: Draw) -> bytes:
    data = b""
    for _ in range(20_000):
        data = (len(data) + 8).to_bytes(4, "big") + b"moov" + data
    return encode(draw)[:32] + data


def _nested_elements(draw: Draw) -> bytes:
    """Tags within tags within tags, each of unknown length."""
    data, unknown = encode(draw, container="matroska"), b"\x01" + b"\xff" * 7
    segment, tags, tag, simple = b"\x18\x53\x80\x67", b"\x12\x54\xc3\x67", b"\x73\x73", b"\x67\xc8"
    start = data[: data.index(segment)] + segment + unknown + tags + unknown + tag + unknown
    return start + (simple + unknown) * 20_000


def _endless_box(draw: Draw) -> bytes:
    """A box of length zero inside the header means: to the end of the file."""
    return in_box(encode(draw), b"mdia", 0, bytes(4))


def _many_tracks(draw: Draw) -> bytes:
    data = encode(draw)
    start, end = box(data, b"trak")
    moov, _ = box(data, b"moov")
    size = int.from_bytes(data[moov : moov + 4], "big") + 2000 * (end - start)
    return patched(data, moov, size.to_bytes(4, "big"))[:end] + data[start:end] * 2000 + data[end:]


KINDS = (
    made(
        "bomb-vp8",
        "bomb.webm",
        "20 kB that decode to 256 million pixels per frame, under a header that says 64x48.",
        _vp8_bomb,
        LIMIT,
    ),
    made(
        "bomb-later",
        "bomb-later.webm",
        "The same, from the tenth frame on.",
        _vp8_grows,
        LIMIT,
        {"archive packets": OK, "archive none": OK},
    ),
    made(
        "bomb-jpeg",
        "bomb.mkv",
        "JPEGs of 500 bytes that claim 16000x16000 pixels: the decoder sees that they cannot hold them.",
        _jpeg_bomb,
        DAMAGED,
    ),
    made("bomb-gif", "bomb-gif.mp4", "A GIF that claims 16000x16000 pixels.", _gif_bomb, LIMIT),
    made(
        "bomb-mp4",
        "bomb.mp4",
        "The container claims 16000x16000 pixels, the stream in it is small and counts.",
        _mp4_bomb,
        OK,
    ),
    made("billion-frames", "billion.mp4", "A table that claims two billion frames.", _billion_frames, DAMAGED),
    made("long-runs", "long-runs.mp4", "A table that claims four billion frame times.", _long_runs, DAMAGED, UNREAD),
    made(
        "wide-pixels",
        "wide-pixels.mp4",
        "Pixels 65535 times as wide as high: not believed, taken as square.",
        partial(encode, set_up=_wide_pixels),
        OK,
    ),
    made("rotated-45", "rotated-45.mp4", "An eighth of a turn: only quarter turns are followed.", _turned_45, OK),
    made("nested-boxes", "nested.mp4", "Boxes within boxes, 20000 deep.", _nested_boxes, DAMAGED),
    made("nested-elements", "nested.mkv", "Matroska elements within elements, 20000 deep.", _nested_elements, DAMAGED),
    made(
        "endless-box",
        "endless.mp4",
        "A box of length zero inside the header reaches to the end of the file, by the rules of the format.",
        _endless_box,
        OK,
    ),
    made("many-tracks", "many-tracks.mp4", "2001 video tracks.", _many_tracks, LIMIT),
)
