"""Many fingerprints side by side: their hashes in flat arrays, their sketches read where they are needed."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..media import sketch
from ..media.fingerprint import MAX_CELLS, VERSION

AT_ONCE = 4096  # fingerprints joined at a time

Words = NDArray[np.uint64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Prints:
    """All fingerprints. One of an older version has no hashes here: it is comparable with nothing."""

    blobs: Sequence[bytes]
    words_W: Words
    """Hashes of all videos, one video after the other."""
    starts: Ints
    """(videos + 1,) where each video's hashes begin."""
    levels: Ints
    """(videos,) a cell of the video is 2**level of the shortest."""

    def sketch(self, video: int) -> sketch.Sketch:
        """What a video shows; it has hashes.

        Raises:
            ValueError: it is malformed.
        """
        words = np.frombuffer(self.blobs[video], "<u8")
        cells = int(self.starts[video + 1] - self.starts[video])
        try:
            return sketch.read(words[1 + cells :])
        except ValueError as error:
            raise ValueError(f"fingerprint {video}: {error}") from error


def side_by_side(blobs: Sequence[bytes]) -> Prints:
    """Take fingerprints apart.

    Args:
        blobs: fingerprints (`fingerprint.Fingerprinter.digest`), empty ones among them.

    Raises:
        ValueError: a fingerprint is malformed, or of a version that is yet to come.
    """
    cells = np.zeros(len(blobs), np.int64)
    levels = np.zeros(len(blobs), np.int64)
    hashes = []
    for first in range(0, len(blobs), AT_ONCE):
        some = blobs[first : first + AT_ONCE]
        for place, blob in enumerate(some, first):
            cells[place] = _cells(blob, place)
        words = np.frombuffer(b"".join(some), "<u8")
        sizes = np.fromiter(map(len, some), np.int64, len(some)) // 8
        heads = np.cumsum(sizes) - sizes
        here = cells[first : first + len(some)]
        full = here > 0
        levels[first : first + len(some)][full] = (words[heads[full]] & 0xFF).astype(np.int64)
        ends = np.cumsum(here)
        hashes.append(words[np.repeat(heads + 1 - (ends - here), here) + np.arange(here.sum())])
    words_W = np.concatenate([np.empty(0, "<u8"), *hashes]).astype(np.uint64, copy=False)
    return Prints(blobs, words_W, np.concatenate([[0], np.cumsum(cells)]), levels)


def _cells(blob: bytes, place: int) -> int:
    """Number of a fingerprint's hashes that can be compared."""
    if not blob:
        return 0
    version = blob[7] if len(blob) >= 8 else None
    if version is not None and 1 <= version < VERSION and not any(blob[1:7]):
        return 0
    if version != VERSION or any(blob[1:7]):
        raise ValueError(f"fingerprint {place} must be of version {VERSION} or older, got the bytes {blob[:8].hex()}")
    cells, rest = divmod(len(blob) - 8 * (1 + sketch.BACKGROUND_WORDS), 8 * (1 + sketch.CELL_WORDS))
    if rest or not 1 <= cells <= MAX_CELLS:
        raise ValueError(
            f"fingerprint {place} must be empty or hold 1 to {MAX_CELLS} cells (72 bytes, and 32 for each), "
            f"got {len(blob)} bytes"
        )
    return cells
