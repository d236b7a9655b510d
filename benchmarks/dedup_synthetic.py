"""Fingerprints by the million, some of them planted copies of others, and what it costs to find these."""

import math
import resource
import time
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..engine.dedup.search import find_duplicates
from ..engine.media import sketch
from ..engine.media.fingerprint import VERSION

PLANTED_SHARE = 0.05
PLANTED_FLIPS = 0.04  # of the bits of a planted copy, of which a third is cut off besides
CELLS = (10, 30)
CELL_BYTES = 8 * sketch.CELL_WORDS
SKETCHES = 1024


def measure(videos: int) -> dict[str, Any]:
    """Plant copies among so many random fingerprints and find them; the record of it."""
    rng = np.random.default_rng(videos)
    originals = np.where(rng.random(videos) < PLANTED_SHARE, (rng.random(videos) * np.arange(videos)).astype(int), -1)
    originals[0] = -1
    originals[originals[originals] >= 0] = -1  # of originals only
    prints = list(_prints(originals, rng))
    start = time.monotonic()
    found = find_duplicates(prints)
    seconds = time.monotonic() - start
    flagged, right = found.of >= 0, (found.of == originals) & (originals >= 0)
    return {
        "part": "synthetic",
        "videos": videos,
        "precision": round(float(right.sum() / max(1, flagged.sum())), 4),
        "recall": round(float(right.sum() / max(1, (originals >= 0).sum())), 4),
        "seconds": round(seconds, 2),
        "bytes_per_print": round(sum(map(len, prints)) / videos),
        "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "hash_comparisons": found.hash_comparisons,
        "video_comparisons": found.video_comparisons,
    }


def exponents(records: list[dict[str, Any]]) -> list[float]:
    """With which power of the number of videos comparisons of hashes grow, from each size to the next."""
    return [
        round(math.log(b["hash_comparisons"] / max(1, a["hash_comparisons"])) / math.log(b["videos"] / a["videos"]), 2)
        for a, b in pairwise(records)
    ]


def _prints(originals: NDArray[np.int64], rng: np.random.Generator) -> Iterator[bytes]:
    """Random fingerprints; a planted one lacks a third of its original's cells, has some bits of its hashes flipped and
    grey levels that are off by a step. Sketches are some of `SKETCHES`: without like hashes they are never compared.
    """
    counts = rng.integers(CELLS[0], CELLS[1] + 1, len(originals))
    cells = rng.integers(0, 100, (SKETCHES, CELLS[1], CELL_BYTES), np.uint8)
    cells[:, :, :8] = np.frombuffer(np.uint64((1 << sketch.KEPT) - 1).astype("<u8").tobytes(), np.uint8)
    backgrounds = rng.bytes(8 * sketch.BACKGROUND_WORDS * SKETCHES)
    header = (VERSION << 56).to_bytes(8, "little")
    for video, original in enumerate(originals.tolist()):
        seed = video if original < 0 else original
        count = int(counts[seed])
        hashes, cell = _mixed(seed, count), cells[seed % SKETCHES, :count]
        if original >= 0:
            cut = count // 3
            begin = int(rng.integers(cut + 1))
            kept = slice(begin, begin + count - cut)
            flips = rng.random((count - cut, 64)) < PLANTED_FLIPS
            hashes = hashes[kept] ^ np.packbits(flips, axis=1).view(np.uint64)[:, 0]
            cell = cell[kept].copy()
            cell[:, 8:-1] += rng.random((count - cut, sketch.KEPT)) < 0.2
        place = seed % SKETCHES * 8 * sketch.BACKGROUND_WORDS
        background = backgrounds[place : place + 8 * sketch.BACKGROUND_WORDS]
        yield header + hashes.astype("<u8").tobytes() + background + cell.tobytes()


def _mixed(seed: int, count: int) -> NDArray[np.uint64]:
    """(count,) hashes of a video, the same whenever they are asked for (SplitMix64)."""
    mixed = np.arange(seed * 64 + 1, seed * 64 + 1 + count, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
