"""JPEG files → one all-intra MJPEG Matroska file, without decoding: the files' bytes are its packets.

What a picture's header says is read here, byte by byte, and held against the limits; whether it decodes is found out
where every video is looked at, in the sandbox.
"""

import os
from fractions import Fraction
from typing import Any, NamedTuple

import av

from ..errors import MediaError
from ..sources.frames import Frame, FrameFolder
from .limits import MAX_JPEG_BYTES, MAX_RATE_DENOMINATOR, MAX_WRITTEN_BYTES, check_size
from .mux import written

SOI, EOI = b"\xff\xd8", b"\xff\xd9"
START_OF_SCAN = 0xDA
KINDS_OF_FRAMES = {0xC0 + kind for kind in range(16)} - {0xC4, 0xC8, 0xCC}
DECODED_KINDS = {0xC0, 0xC1, 0xC2}  # baseline, extended and progressive, Huffman-coded
MAX_SEGMENTS = 10_000
BYTES_PER_BLOCK = 64  # at most, of a Matroska block's header and its place in the cues


class Picture(NamedTuple):
    """What a JPEG's header says of how it is stored."""

    width: int
    height: int
    sampling: tuple[int, ...]
    """Of each component, as the header packs it: 0x22 is 2 x 2."""


def pack(folder: FrameFolder, out: str, *, fps: float) -> None:
    """Write the frames of a folder as a video.

    Args:
        folder: of the JPEGs.
        out: where the .mkv goes.
        fps: frames per second.

    Raises:
        MediaError: "damaged", a file is no whole JPEG or another kind of picture than the first; "transcode", a kind of
            JPEG that decoders do not take; "limit"; "changed" or "unreadable" where a file is not what it was.
        OSError: the disk refused.
    """
    if folder.bytes + BYTES_PER_BLOCK * len(folder.frames) > MAX_WRITTEN_BYTES:
        raise MediaError("limit", f"{folder.bytes} bytes of frames, at most {MAX_WRITTEN_BYTES} fit a sample")
    rate = Fraction(fps).limit_denominator(MAX_RATE_DENOMINATOR)
    first: Picture | None = None
    stream: Any = None
    with written(out, "matroska", "does not pack into Matroska") as sink:
        for place, frame in enumerate(folder.frames):
            data = _read(folder.path, frame)
            picture = _checked(data, frame.name)
            if first is None:
                first, size = picture, {"width": picture.width, "height": picture.height}
                stream = sink.add_mux_stream("mjpeg", rate=rate, time_base=1 / rate, **size)
            if picture != first:
                raise MediaError("damaged", f"{frame.name} is {_words(picture)}, {_words(first)} before it")
            packet: Any = av.Packet(data)
            packet.stream, packet.time_base = stream, 1 / rate
            packet.pts = packet.dts = place
            packet.duration, packet.is_keyframe = 1, True
            sink.mux(packet)


def _read(folder: str, frame: Frame) -> bytes:
    if frame.bytes > MAX_JPEG_BYTES:
        raise MediaError("limit", f"{frame.name} has {frame.bytes} bytes, at most {MAX_JPEG_BYTES} are taken")
    try:
        with open(os.path.join(folder, frame.name), "rb") as file:
            data = file.read(frame.bytes + 1)
    except FileNotFoundError:
        raise MediaError("changed", f"{frame.name} went away while the frames were read") from None
    except OSError as error:
        raise MediaError("unreadable", f"{frame.name}: {error.strerror or error}") from None
    if len(data) != frame.bytes:
        raise MediaError("changed", f"{frame.name} changed while the frames were read")
    return data


def _checked(data: bytes, name: str) -> Picture:
    try:
        picture = picture_of(data)
    except MediaError as error:
        raise MediaError(error.reason, f"{name} {error.detail}") from None
    check_size(picture.width, picture.height)
    return picture


def picture_of(data: bytes) -> Picture:
    """Read the header of a JPEG, and look for its end.

    Raises:
        MediaError: "damaged", it is none or cut short; "transcode", of a kind that decoders do not take.
    """
    if not data.startswith(SOI):
        raise MediaError("damaged", f"is no JPEG: it begins with {data[:4].hex()}")
    place, picture = 2, None
    for _ in range(MAX_SEGMENTS):
        head = data[place : place + 4]
        if len(head) < 4 or head[0] != 0xFF:
            break
        marker, length = head[1], int.from_bytes(head[2:4], "big")
        if marker == 0xFF:  # padding before a marker
            place += 1
            continue
        if marker in KINDS_OF_FRAMES:
            picture = _frame_header(marker, data[place + 4 : place + 2 + length])
        if marker == START_OF_SCAN and picture is not None:
            if data.rfind(EOI, place) < 0:
                raise MediaError("damaged", "is cut short: it has no end mark")
            return picture
        place += 2 + max(length, 2)
    raise MediaError("damaged", "has no readable header of a JPEG")


def _frame_header(marker: int, body: bytes) -> Picture:
    if marker not in DECODED_KINDS or body[:1] != b"\x08":
        raise MediaError("transcode", f"is a JPEG of kind {marker:#x} with {body[:1].hex()} bits, which is not decoded")
    height, width = int.from_bytes(body[1:3], "big"), int.from_bytes(body[3:5], "big")
    components = body[5] if len(body) > 5 else 0
    if not width or not height or components not in (1, 3, 4) or len(body) < 6 + 3 * components:
        raise MediaError("damaged", "has a header without size or components")
    return Picture(width, height, tuple(body[7 : 6 + 3 * components : 3]))


def _words(picture: Picture) -> str:
    sampling = " ".join(f"{each >> 4}x{each & 15}" for each in picture.sampling)
    return f"{picture.width}x{picture.height} (sampled {sampling})"
