"""Files of the right length with wrong bytes: flipped bits, zeroed ranges, strangers before and after."""

from typing import Any

from .flips import CHECKSUMS
from .kinds import DAMAGED, LATE, NOT_VIDEO, OK, UNREAD, Draw, made
from .media import encode, packets_of
from .surgery import box, flipped, in_box, moov_first, patched, zeroed


def _mkv(draw: Draw, **how: Any) -> bytes:
    return encode(draw, container="matroska", **how)


def _vp9(draw: Draw) -> bytes:
    return encode(draw, codec="libvpx-vp9", container="webm")


def _in_payload(data: bytes, draw: Draw, packet: int, bits: int) -> bytes:
    """Bits flipped in the second half of one video packet."""
    start, size = packets_of(data)[packet]
    return flipped(data, draw, start + size // 2, start + size, bits)


def _zeroed_payload(data: bytes, packet: int) -> bytes:
    start, size = packets_of(data)[packet]
    return zeroed(data, start + size // 4, start + size)


def _sprinkled(data: bytes, draw: Draw) -> bytes:
    """A flipped bit in every fiftieth byte of the first ten payloads."""
    for start, size in packets_of(data)[:10]:
        data = flipped(data, draw, start, start + size, max(1, size // 50))
    return data


def _flipped_box(data: bytes, name: bytes, draw: Draw, bits: int, skip: int) -> bytes:
    start, end = box(data, name)
    return flipped(data, draw, start + skip, end, bits)


def _middle_zeroed(data: bytes) -> bytes:
    return zeroed(data, len(data) * 2 // 5, len(data) * 3 // 5)


def _tail_zeroed(data: bytes) -> bytes:
    return zeroed(data, len(data) * 2 // 3, len(data))


def _cues_flipped(draw: Draw) -> bytes:
    data = _mkv(draw)
    cues = data.rindex(b"\x1c\x53\xbb\x6b")
    return flipped(data, draw, cues + 6, cues + 16, 6)


def _with_junk(draw: Draw, data: bytes, *, first: bool = False) -> bytes:
    junk = draw.random.randbytes(5000)
    return junk + data if first else data + junk


KINDS = (
    made(
        "flip-ftyp",
        "flip-ftyp.mp4",
        "A flipped bit in the brand, which nobody needs.",
        lambda draw: patched(encode(draw), 8, b"ksom"),
        OK,
    ),
    made(
        "flip-sizes",
        "flip-sizes.mp4",
        "Flipped bits in the table of packet sizes: frames are cut out of the wrong places.",
        lambda draw: _flipped_box(encode(draw), b"stsz", draw, 12, 20),
        DAMAGED,
        {"archive none": OK},
    ),
    made(
        "flip-offsets",
        "flip-offsets.mp4",
        "The table of places points beyond the end of the file.",
        lambda draw: in_box(encode(draw), b"stco", 16, b"\x7f"),
        DAMAGED,
    ),
    made(
        "flip-codec",
        "flip-codec.mp4",
        "The codec's set-up data are wrong.",
        lambda draw: in_box(encode(draw), b"avcC", 8, bytes(16)),
        DAMAGED,
    ),
    made(
        "flip-codec-name",
        "flip-codec-name.mp4",
        "A codec that does not exist.",
        lambda draw: in_box(encode(draw), b"avc1", 4, b"avq1"),
        DAMAGED,
    ),
    made(
        "flip-payload",
        "flip-payload.mp4",
        "One byte in fifty of the H.264 payload has a flipped bit.",
        lambda draw: _sprinkled(encode(draw), draw),
        DAMAGED,
        LATE,
    ),
    made(
        "flip-hevc",
        "flip-hevc.mkv",
        "One byte in fifty of an HEVC payload has a flipped bit: the decoder makes pictures of it without a complaint.",
        lambda draw: _sprinkled(_mkv(draw, codec="libx265"), draw),
        OK,
        unseen=True,
    ),
    made(
        "flip-hevc-md5",
        "flip-hevc-md5.mkv",
        "The same in HEVC that carries checksums of its pictures.",
        lambda draw: _sprinkled(_mkv(draw, codec="libx265", options=CHECKSUMS), draw),
        DAMAGED,
        LATE,
    ),
    made(
        "flip-sei",
        "flip-sei.mp4",
        "A flipped bit in the encoder's signature, which is no picture.",
        lambda draw: encode(draw).replace(b"x264 - core", b"y264 - core"),
        OK,
        unseen=True,
    ),
    made(
        "flip-vp9",
        "flip-vp9.webm",
        "Flipped bits in VP9: its arithmetic code gives every bit string a meaning.",
        lambda draw: _in_payload(_vp9(draw), draw, 5, 8),
        OK,
        unseen=True,
    ),
    made(
        "flip-raw",
        "flip-raw.mkv",
        "A flipped bit in uncompressed pixels is another pixel.",
        lambda draw: _in_payload(_mkv(draw, codec="rawvideo"), draw, 5, 1),
        OK,
        unseen=True,
    ),
    made(
        "flip-ffv1",
        "flip-ffv1.mkv",
        "Flipped bits in FFV1: its checksums notice, and FFmpeg quietly fills the slice from the frame before.",
        lambda draw: _in_payload(
            _mkv(draw, codec="ffv1", options={"level": "3", "slicecrc": "1", "slices": "4"}), draw, 5, 9
        ),
        OK,
        unseen=True,
    ),
    made(
        "flip-cues",
        "flip-cues.mkv",
        "Matroska's index is damaged; reading from the front does not need it.",
        _cues_flipped,
        OK,
    ),
    made(
        "flip-ebml",
        "flip-ebml.mkv",
        "The first bytes of a Matroska file are wrong.",
        lambda draw: flipped(_mkv(draw), draw, 0, 4, 6),
        NOT_VIDEO,
    ),
    made(
        "zero-start",
        "zero-start.mp4",
        "The first kilobyte is zero: FFmpeg does not look for the header at the end.",
        lambda draw: zeroed(encode(draw), 0, 1024),
        NOT_VIDEO,
    ),
    made(
        "zero-start-mkv",
        "zero-start.mkv",
        "The first kilobyte is zero: nothing tells what it was.",
        lambda draw: zeroed(_mkv(draw), 0, 1024),
        NOT_VIDEO,
    ),
    made(
        "zero-middle",
        "zero-middle.mp4",
        "A fifth in the middle is zero, as after a lost disk block.",
        lambda draw: _middle_zeroed(encode(draw)),
        DAMAGED,
        {"archive packets": OK, "archive none": OK},
    ),
    made(
        "zero-middle-mkv",
        "zero-middle.mkv",
        "The same in Matroska.",
        lambda draw: _middle_zeroed(_mkv(draw)),
        DAMAGED,
        LATE,
    ),
    made(
        "zero-middle-ts",
        "zero-middle.ts",
        "The same in a transport stream.",
        lambda draw: _middle_zeroed(encode(draw, container="mpegts")),
        DAMAGED,
        UNREAD,
    ),
    made(
        "zero-vp9",
        "zero-vp9.webm",
        "Three quarters of a VP9 frame are zero: it decodes to other pixels.",
        lambda draw: _zeroed_payload(_vp9(draw), 5),
        OK,
        unseen=True,
    ),
    made(
        "zero-tail",
        "zero-tail.mp4",
        "The last third is zero: a download that reserved its space and never finished.",
        lambda draw: _tail_zeroed(moov_first(encode(draw))),
        DAMAGED,
        {"archive packets": OK, "archive none": OK},
    ),
    made(
        "junk-after",
        "junk-after.mp4",
        "Random bytes after the end: every frame is whole.",
        lambda draw: _with_junk(draw, encode(draw)),
        OK,
        unseen=True,
    ),
    made(
        "junk-after-mkv",
        "junk-after.mkv",
        "Random bytes after the end of a Matroska file.",
        lambda draw: _with_junk(draw, _mkv(draw)),
        OK,
        unseen=True,
    ),
    made(
        "junk-before",
        "junk-before.mp4",
        "Random bytes before the start: no box begins where one must.",
        lambda draw: _with_junk(draw, encode(draw), first=True),
        NOT_VIDEO,
    ),
    made(
        "ts-from-the-middle",
        "tuned-in.ts",
        "A transport stream may be tuned into at any byte.",
        lambda draw: encode(draw, container="mpegts")[100:],
        OK,
    ),
    made(
        "two-in-one",
        "two.mp4",
        "Two mp4 files in one: the first header counts.",
        lambda draw: encode(draw) + encode(draw, size=(96, 80)),
        OK,
        unseen=True,
    ),
)
