"""Files that end too early or lack a piece: broken downloads, full disks, lost packets."""

from typing import Any

from .healthy import FRAGMENTS
from .kinds import DAMAGED, LATE, OK, TRANSCODE, UNREAD, Draw, made
from .media import encode, packets_of
from .surgery import box, half, moov_first, without, without_box, without_ts_packets


def _mkv(draw: Draw, **how: Any) -> bytes:
    return encode(draw, container="matroska", **how)


def _vp8(draw: Draw, **how: Any) -> bytes:
    return encode(draw, codec="libvpx", container="webm", **how)


def _avi(draw: Draw) -> bytes:
    return encode(draw, codec="mpeg4", container="avi")


def _between_fragments(draw: Draw) -> bytes:
    data = encode(draw, mux=FRAGMENTS, options={"g": "6"})
    return data[: box(data, b"moof")[0]]


def _between_blocks(draw: Draw) -> bytes:
    data = _vp8(draw, mux={"live": "1"})
    return data[: packets_of(data)[12][0] - 10]


KINDS = (
    made(
        "mp4-without-moov",
        "no-moov.mp4",
        "The recorder died before it wrote the header that comes last.",
        lambda draw: without_box(encode(draw), b"moov"),
        DAMAGED,
    ),
    made(
        "mp4-moov-cut",
        "moov-cut.mp4",
        "The header comes last and ends in its middle.",
        lambda draw: encode(draw)[:-400],
        DAMAGED,
    ),
    made(
        "mp4-half",
        "half.mp4",
        "The header comes first and lists frames that never arrived.",
        lambda draw: half(moov_first(encode(draw))),
        DAMAGED,
        {"archive none": OK},
    ),
    made(
        "mp4-last-byte",
        "last-byte.mp4",
        "A single byte is missing at the end.",
        lambda draw: moov_first(encode(draw))[:-1],
        DAMAGED,
        {"archive none": OK},
    ),
    made(
        "fragment-half",
        "fragment-half.mp4",
        "A fragment ends in its middle.",
        lambda draw: half(encode(draw, mux=FRAGMENTS, options={"g": "6"})),
        DAMAGED,
        {"archive none": OK},
    ),
    made(
        "fragment-lost",
        "fragment-lost.mp4",
        "Cut between two fragments: a shorter file that is whole.",
        _between_fragments,
        OK,
        unseen=True,
    ),
    made("webm-half", "half.webm", "Half a download.", lambda draw: half(_vp8(draw)), DAMAGED, UNREAD),
    made("mkv-half", "half.mkv", "Cut inside a cluster.", lambda draw: half(_mkv(draw)), DAMAGED, UNREAD),
    made(
        "live-half",
        "live-half.webm",
        "A live recording cut between two frames: it never said how long it is.",
        _between_blocks,
        OK,
        unseen=True,
    ),
    made(
        "mkv-hole",
        "hole.mkv",
        "A tenth of the bytes is missing in the middle.",
        lambda draw: without(_mkv(draw), 0.45, 0.55),
        DAMAGED,
        UNREAD,
    ),
    made("avi-half", "half.avi", "Half an AVI, without its index.", lambda draw: half(_avi(draw)), DAMAGED),
    made(
        "avi-hole",
        "hole.avi",
        "Bytes are missing in the middle: the index points beside the frames.",
        lambda draw: without(_avi(draw), 0.7, 0.8),
        DAMAGED,
        LATE,
    ),
    made(
        "avi-without-index",
        "no-index.avi",
        "All frames are there, the index is not.",
        lambda draw: _avi(draw).rpartition(b"idx1")[0],
        OK,
    ),
    made(
        "ts-packets-lost",
        "lost.ts",
        "A tenth of the packets got lost on the way.",
        lambda draw: without_ts_packets(encode(draw, container="mpegts"), draw, 0.1),
        DAMAGED,
        UNREAD,
    ),
    made(
        "ts-joined",
        "joined.ts",
        "Two recordings joined byte by byte: the counters break at the seam as where packets are lost.",
        lambda draw: encode(draw, container="mpegts") * 2,
        DAMAGED,
        UNREAD,
    ),
    made(
        "ts-half",
        "half.ts",
        "A broadcast that ends in the middle of a frame.",
        lambda draw: half(encode(draw, container="mpegts")),
        DAMAGED,
        LATE,
    ),
    made(
        "mpg-half",
        "half.mpg",
        "Half a program stream.",
        lambda draw: half(encode(draw, codec="mpeg2video", container="vob", rate=25)),
        DAMAGED,
        UNREAD,
    ),
    made(
        "flv-half",
        "half.flv",
        "Half a Flash video.",
        lambda draw: half(encode(draw, container="flv")),
        DAMAGED,
        {"archive none": OK},
    ),
    made(
        "wmv-half",
        "half.wmv",
        "Half an ASF file.",
        lambda draw: half(encode(draw, codec="wmv2", container="asf")),
        DAMAGED,
        {"archive packets": TRANSCODE, "archive none": TRANSCODE, "train-* packets": OK, "train-* none": OK},
    ),
    made(
        "gif-half",
        "half-gif.mp4",
        "Half an animation: the format does not say how many pictures follow.",
        lambda draw: half(encode(draw, codec="gif", container="gif", pix_fmt="rgb8")),
        OK,
        {"archive": TRANSCODE},
        unseen=True,
    ),
    made("header-alone", "header.mkv", "The first 100 bytes.", lambda draw: _mkv(draw)[:100], DAMAGED),
)
