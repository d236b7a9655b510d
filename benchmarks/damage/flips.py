"""How often a decoder notices one flipped bit: `python -m reelmill.benchmarks.damage.flips` measures again."""

import io
import random
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np

from ...engine.errors import MediaError
from ...engine.media.probe import probe
from .kinds import Draw
from .media import Picture, encode, packets_of

EACH = 400
"""Files per codec, one flipped bit in each."""
PYAV = "18.1"
"""The version whose FFmpeg MEASURED is of."""
MEASURED = {
    "H.264": (155, 13),
    "HEVC": (22, 3),
    "HEVC with picture checksums": (388, 12),
    "VP8": (1, 4),
    "VP9": (6, 12),
    "AV1": (172, 66),
    "MPEG-4": (312, 14),
    "MPEG-2": (264, 47),
    "Motion JPEG": (189, 72),
    "FFV1": (0, 0),
}
"""Codec → (flips that were noticed, unnoticed flips that leave every picture as it was), of EACH."""
CHECKSUMS = {"x265-params": "pools=none:frame-threads=1:log-level=none:hash=1"}
CODECS: Mapping[str, Mapping[str, Any]] = {
    "H.264": {"codec": "libx264"},
    "HEVC": {"codec": "libx265"},
    "HEVC with picture checksums": {"codec": "libx265", "options": CHECKSUMS},
    "VP8": {"codec": "libvpx"},
    "VP9": {"codec": "libvpx-vp9"},
    "AV1": {"codec": "libsvtav1"},
    "MPEG-4": {"codec": "mpeg4"},
    "MPEG-2": {"codec": "mpeg2video", "rate": 25},
    "Motion JPEG": {"codec": "mjpeg", "pix_fmt": "yuvj420p"},
    "FFV1": {"codec": "ffv1", "options": {"level": "3", "slicecrc": "1"}},
}


def measure(codec: str, flips: int = EACH, seed: int = 1) -> tuple[int, int]:
    """Flip one bit of one frame in each of `flips` Matroska files; returns the pair of MEASURED."""
    data = encode(Draw("rates", 0), container="matroska", **CODECS[codec])
    places, whole, choose = packets_of(data), _pictures(data), random.Random(seed)
    noticed = same = 0
    with tempfile.NamedTemporaryFile(suffix=".mkv") as file:
        for _ in range(flips):
            start, size = places[choose.randrange(len(places))]
            bit = choose.randrange(size * 8)
            damaged = bytearray(data)
            damaged[start + bit // 8] ^= 1 << bit % 8
            Path(file.name).write_bytes(damaged)
            try:
                probe(file.name, "decode")
            except MediaError:
                noticed += 1
            else:
                same += _equal(_pictures(bytes(damaged)), whole)
    return noticed, same


def _pictures(data: bytes) -> list[Picture]:
    with av.open(io.BytesIO(data), "r") as container:
        return [frame.to_ndarray(format="rgb24").astype(np.uint8) for frame in container.decode(video=0)]


def _equal(some: list[Picture], others: list[Picture]) -> bool:
    return len(some) == len(others) and all(map(np.array_equal, some, others))


if __name__ == "__main__":
    for name in CODECS:
        print(f"{name}: {measure(name)} of {EACH}", flush=True)
