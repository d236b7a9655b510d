"""What one sample is: its fields, their types and units, and the version of the format."""

import hashlib
from dataclasses import dataclass

import pyarrow as pa

FORMAT_VERSION = 1

PACKET = pa.struct(
    [
        ("offset", pa.int64()),  # first payload byte inside the video member; -1 where the container hides it
        ("size", pa.int32()),
        ("pts", pa.int64()),  # in time_base units; null for a packet that shows no frame of its own
        ("keyframe", pa.bool_()),
    ]
)
MEMBER = pa.struct([("ext", pa.string()), ("offset", pa.int64()), ("size", pa.int64()), ("crc32", pa.uint32())])

SAMPLE = pa.schema(
    [
        ("key", pa.string()),
        ("members", pa.list_(MEMBER)),  # offsets from the start of the tar; the video comes first
        ("labels", pa.list_(pa.string())),
        ("action_id", pa.int64()),  # of the first label; null without one
        ("split", pa.string()),
        ("caption", pa.string()),
        ("input_id", pa.string()),
        ("source", pa.string()),
        ("start_seconds", pa.float64()),  # of the clip inside its source; null for a whole video
        ("end_seconds", pa.float64()),
        ("container", pa.string()),
        ("codec", pa.string()),
        ("pix_fmt", pa.string()),
        ("width", pa.int32()),  # stored pixels, before rotation
        ("height", pa.int32()),
        ("pixel_aspect", pa.float64()),  # width / height of one pixel
        ("rotation", pa.int16()),  # degrees clockwise that turn a decoded frame upright: 0, 90, 180, 270
        ("color_matrix", pa.string()),
        ("color_range", pa.string()),
        ("fps", pa.float64()),
        ("time_base", pa.string()),  # seconds per pts unit, an exact fraction: "1/1000"
        ("duration_seconds", pa.float64()),
        ("frames", pa.int64()),  # counted by decoding
        ("packets", pa.list_(PACKET)),  # in decode order
        ("stream_hash", pa.string()),  # blake2b over the packets' payloads: equal after a mere remux
        ("perceptual_hash", pa.string()),  # null where perceptual deduplication was not asked for
        ("generation", pa.int32()),
    ],
    metadata={"reelmill": f"sample {FORMAT_VERSION}"},
)


@dataclass(frozen=True, slots=True)
class Member:
    """Where one file of a sample lies inside its tar."""

    ext: str
    """What follows the key and the first dot: mp4, json, txt."""
    offset: int
    """First payload byte, from the start of the tar."""
    size: int
    """Payload bytes."""
    crc32: int
    """zlib.crc32 of the payload."""


def sample_key(input_id: str, start_seconds: float | None = None, end_seconds: float | None = None) -> str:
    """Sixteen hex digits that name a sample: blake2b of (input id, span). Stable under resharding."""
    span = "" if start_seconds is None and end_seconds is None else f"{start_seconds!r}:{end_seconds!r}"
    return hashlib.blake2b(f"{input_id}\0{span}".encode(), digest_size=8).hexdigest()


def action_id(canonical_name: str) -> int:
    """The 63-bit blake2b of a canonical action name: outlives rebuilds of a bank."""
    digest = hashlib.blake2b(canonical_name.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
