"""Unusual clocks: variable rates, gaps, times that run backwards, and files with one frame or none."""

import struct
from functools import partial
from typing import Any

from .kinds import DAMAGED, LIMIT, OK, UNREAD, Draw, made
from .media import RATE, encode, encoded, packets_of
from .surgery import patched, renumbered_ts


def _backwards_ts(draw: Draw) -> bytes:
    parts = [encode(draw, container="mpegts", frames=12, mux={"output_ts_offset": offset}) for offset in ("10", "0")]
    return renumbered_ts(b"".join(parts))


def _block_times(draw: Draw, times: Any) -> bytes:
    """A Matroska whose blocks are written again with other times: two bytes, three before the payload."""
    data = encode(draw, codec="mjpeg", container="matroska", pix_fmt="yuvj420p")
    places = packets_of(data)
    for number, (start, _) in enumerate(places):
        data = patched(data, start - 3, times(number, len(places)).to_bytes(2, "big", signed=True))
    return data


def _long_promise(draw: Draw) -> bytes:
    """A Matroska whose header promises ten hours, in milliseconds as a double."""
    data = encode(draw, container="matroska")
    return patched(data, data.index(b"\x44\x89\x88") + 3, struct.pack(">d", 36_000_000.0))


_TEN_HOURS = 36_000 * RATE

KINDS = (
    encoded("variable-rate", "variable.mp4", "Frames come at uneven times.", pts=lambda i: i + 5 * (i // 6)),
    encoded("slow", "slow.mp4", "One frame in ten seconds.", rate=1, pts=lambda i: 10 * i),
    encoded("fast", "1000-fps.mp4", "A thousand frames per second, as a high-speed camera writes.", rate=1000),
    encoded(
        "late-start", "late.mkv", "The first frame comes at five seconds.", container="matroska", pts=lambda i: i + 60
    ),
    encoded(
        "negative-start",
        "negative.mp4",
        "Decoding times begin before zero.",
        options={"bf": "3"},
        mux={"movflags": "negative_cts_offsets"},
    ),
    encoded(
        "clock-wraps",
        "wraps.ts",
        "The 33-bit clock of a transport stream overflows on the way.",
        container="mpegts",
        mux={"output_ts_offset": "95443"},
    ),
    encoded(
        "gap-mp4",
        "gap.mp4",
        "Ten hours without a frame, and a rate that says so.",
        pts=lambda i: i if i < 12 else i + _TEN_HOURS,
    ),
    encoded(
        "gap-mkv",
        "gap.mkv",
        "Ten hours without a frame at a steady rate: a constant rate would repeat one frame 432000 times.",
        container="matroska",
        pts=lambda i: i if i < 12 else i + _TEN_HOURS,
        unless={"train-*": LIMIT},
    ),
    made(
        "backwards-ts",
        "backwards.ts",
        "The clock jumps back by ten seconds, as after a cut in a broadcast.",
        _backwards_ts,
        OK,
    ),
    made(
        "backwards-mkv",
        "backwards.mkv",
        "Every frame is said to come before the one ahead of it: the training form goes on from frame to frame.",
        partial(_block_times, times=lambda number, total: (total - number) * 83),
        OK,
    ),
    made(
        "standing-clock",
        "standing.mkv",
        "All frames at one time: the training form shows them one after the other.",
        partial(_block_times, times=lambda number, total: 0),
        OK,
    ),
    encoded(
        "live-webm",
        "live.webm",
        "A live recording: no length, no index.",
        codec="libvpx",
        container="webm",
        mux={"live": "1"},
    ),
    made(
        "promises-more",
        "promises.mkv",
        "The header promises ten hours, the frames last two seconds.",
        _long_promise,
        DAMAGED,
        UNREAD,
    ),
    encoded("one-frame", "one.mp4", "A single frame.", frames=1),
    encoded(
        "one-frame-webm",
        "one.webm",
        "A single frame in a file that does not say so.",
        frames=1,
        codec="libvpx",
        container="webm",
    ),
    encoded("no-frame", "none.mp4", "A header and no frame.", DAMAGED, frames=0),
    encoded("no-frame-mkv", "none.mkv", "A header and no frame.", DAMAGED, frames=0, container="matroska"),
)
