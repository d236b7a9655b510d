"""Near duplicates among millions of fingerprints, without comparing all pairs.

Candidates come from multi-index hashing in the form of Manku et al., "Detecting near-duplicates for web crawling"
(WWW 2007; Norouzi et al., "Fast search in Hamming space with multi-index hashing", CVPR 2012, has the analysis): a
hash is cut into 5 blocks, and each of the 10 pairs of blocks is a table, so that two hashes that differ in up to 3 bits
share a bucket of at least one table, whatever the bits; with more bits most still do, and one of a video's hashes is
enough. A table is a sorted array, made in parts and gone before the next one is made.

Of a key's 25 or 26 bits only so much is used that there are `BUCKETS_PER_HASH` buckets for each hash (but no fewer than
`LEAST_BUCKETS`, for real hashes crowd, nor more than the key has): a hash shares its bucket with W / (4 W) = 1/4 others
on average if hashes are spread evenly, half of them earlier, however many there are; so it is compared 10 / 8 times in
all tables, and comparisons grow as W. With fixed keys they would grow as W**2, if slowly (W**2 / 2**27 a table). Beyond
8 to 16 million hashes all of a key is used, and comparisons per hash do rise with W, up to a bound that holds for any
hashes: within a bucket a hash is compared only with the first `BUCKET_WIDTH` videos there, in a crowded one (an intro,
a test card) only with the first. So comparisons of hashes are 80 W at worst, and yet a thousand copies of one video all
find the first of them.

A candidate is verified by laying the two videos over each other in time (`overlay`). A copy cut out of a video at any
place is found in either order while `min_cells` of the longer one's cells remain, for all that it shows lies in its
source; two cuts of one video find each other when they share `min_share` of the shorter. What is as good as the same to
the eye is the same: a reversed copy of what does not move, a mirrored one of what leans to no side. Fingerprints of
older versions are comparable with nothing, and so are kept.

Memory is 12 bytes per hash beside the fingerprints themselves, and 200 MB; time is that of ten sorts of all hashes.

Legend: W hashes (words), P pairs.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from .config import DedupConfig
from .overlay import match
from .prints import Ints, Prints, Words, side_by_side

BLOCKS = ((0, 13), (13, 13), (26, 13), (39, 13), (52, 12))  # first bit, bits
BUCKETS_PER_HASH = 4
LEAST_BUCKETS = 1 << 18
TABLE_HASHES = 1 << 22  # of a table are held at once
KEYS_AT_ONCE = 1 << 20
BUCKET_WIDTH = 8
CROWD = 256  # hashes of different videos in one bucket
PAIRS_AT_ONCE = 512  # bounds memory: sketches of twice as many videos, 25 kB each
MAX_LEVELS_APART = 4  # of time resolution: beyond, too few cells are left to compare


@dataclass(frozen=True, slots=True)
class Duplicates:
    """What a search found, and what it cost."""

    of: Ints
    """(videos,) index of the original of each video; -1 where the video is kept."""
    hash_comparisons: int
    """Pairs of single hashes compared."""
    video_comparisons: int
    """Pairs of videos laid over each other."""


def find_duplicates(prints: Iterable[bytes], config: DedupConfig | None = None, *, earlier: int = 0) -> Duplicates:
    """Find near duplicates.

    Videos are gone through in order: one that matches a kept video is a duplicate of the first such, any other is kept.
    So an original is never a duplicate itself, and in a chain a ~ b ~ c with b gone for a, c goes only if it matches a
    too: what is dropped is always close to something that stays. The result depends on the order of the videos and
    nothing else; videos that share no bucket with a pair have no say in it.

    Guaranteed to become candidates are two videos of which some hashes differ in at most 3 bits, as long as the earlier
    one is among the first `BUCKET_WIDTH` videos of a bucket they share.

    Args:
        prints: fingerprints (`fingerprint.Fingerprinter.digest`); an empty one is never a duplicate.
        config: thresholds; None takes the defaults.
        earlier: how many of the first prints are of earlier generations: kept, whatever they match among themselves.

    Returns:
        Originals as indices into `prints`, -1 for the kept, and the counts of comparisons.

    Raises:
        ValueError: a fingerprint is malformed, or there are fewer than `earlier`.
    """
    config = config or DedupConfig()
    flat = side_by_side(list(prints))
    if not 0 <= earlier <= len(flat.levels):
        raise ValueError(f"earlier must lie in 0 to {len(flat.levels)} (the fingerprints given), got {earlier}")
    candidates, compared = _candidates(flat, earlier, config.max_distance)
    same = np.zeros(len(candidates), np.bool_)
    for rows in _batches(flat, candidates):
        same[rows] = match(flat, candidates[rows], config)
    return Duplicates(_resolve(candidates[same], len(flat.levels)), compared, len(candidates))


def _candidates(flat: Prints, first_new: int, max_distance: int) -> tuple[Ints, int]:
    """(P, 2) pairs (earlier video, later new video) with at least one hash each that match, sorted by the later."""
    owners_W = np.repeat(np.arange(len(flat.levels), dtype=np.int32), np.diff(flat.starts))
    found, compared = np.empty(0, np.uint64), 0
    for left, right in combinations(BLOCKS, 2):
        near = []
        for places, buckets in _table(flat.words_W, owners_W, left, right):
            for firsts, laters in _bucket_pairs(places, buckets, owners_W, first_new):
                distances = np.bitwise_count(flat.words_W[firsts] ^ flat.words_W[laters])
                close = distances <= max_distance
                compared += len(firsts)
                pair = owners_W[laters[close]].astype(np.uint64) << 32 | owners_W[firsts[close]].astype(np.uint64)
                near.append(np.unique(pair))
        found = np.unique(np.concatenate([found, *near]))
    pairs = np.stack([found & 0xFFFFFFFF, found >> 32], axis=1)
    return pairs.astype(np.int64), compared


def _table(words_W: Words, owners_W: NDArray[np.int32], *blocks: tuple[int, int]) -> Iterator[tuple[Ints, Ints]]:
    """Hashes that share a bucket with another video's: their places in `words_W`, and where in these a bucket begins.

    Both are sorted by bucket, then video; a video has one hash per bucket, its first. They come in parts, each with all
    of its buckets, for memory.
    """
    parts = 1 + len(words_W) // TABLE_HASHES
    for part in range(parts):
        keyed = [_keyed(words_W, first, blocks, part, parts) for first in range(0, len(words_W), KEYS_AT_ONCE)]
        keys = np.concatenate([np.empty(0, np.uint64), *keyed])
        del keyed
        keys.sort()
        places = (keys & np.uint64(0xFFFFFFFF)).astype(np.uint32)
        keys >>= np.uint64(32)
        new_key = np.ones(len(places), np.bool_)
        new_key[1:] = keys[1:] != keys[:-1]
        del keys
        owners = owners_W[places]
        once = new_key.copy()
        once[1:] |= owners[1:] != owners[:-1]
        del owners
        places, new_key = places[once], new_key[once]
        alone = new_key & np.append(new_key[1:], True)
        yield places[~alone].astype(np.int64), np.flatnonzero(new_key[~alone])


def _keyed(words_W: Words, first: int, blocks: tuple[tuple[int, int], ...], part: int, parts: int) -> Words:
    """Bucket and place, in the halves of a word, of some hashes from `first` on that lie in this part of a table."""
    words = words_W[first : first + KEYS_AT_ONCE]
    buckets, bits = np.zeros(len(words), np.uint64), 0
    for first_bit, width in blocks:
        buckets = buckets << np.uint64(width) | words >> np.uint64(first_bit) & np.uint64((1 << width) - 1)
        bits += width
    wanted = min(1 << bits, max(LEAST_BUCKETS, BUCKETS_PER_HASH * len(words_W)))
    buckets = buckets * np.uint64(wanted) >> np.uint64(bits)
    chosen = (words != 0) & (buckets % np.uint64(parts) == part)
    keys: Words = buckets[chosen] << np.uint64(32) | (np.flatnonzero(chosen) + first).astype(np.uint64)
    return keys


def _bucket_pairs(
    places: Ints, buckets: Ints, owners_W: NDArray[np.int32], first_new: int
) -> Iterator[tuple[Ints, Ints]]:
    """Pairs of places to compare: every hash of a new video with the first ones of its bucket."""
    sizes = np.diff(buckets, append=len(places))
    begins = np.repeat(buckets, sizes)
    width = np.repeat(np.where(sizes > CROWD, 1, BUCKET_WIDTH), sizes)
    rank = np.arange(len(places)) - begins
    is_new = owners_W[places] >= first_new
    for nth in range(BUCKET_WIDTH):
        laters = np.flatnonzero(is_new & (rank > nth) & (nth < width))
        if len(laters):
            yield places[begins[laters] + nth], places[laters]


def _batches(flat: Prints, pairs: Ints) -> Iterator[Ints]:
    """Rows of `pairs` that are compared together: few enough for memory, and of one ratio of time resolutions."""
    apart = flat.levels[pairs[:, 0]] - flat.levels[pairs[:, 1]]
    lengths = np.diff(flat.starts)[pairs].max(axis=1)
    order = np.lexsort((lengths, apart))
    for same in np.split(order, np.flatnonzero(np.diff(apart[order])) + 1):
        if len(same) and abs(apart[same[0]]) <= MAX_LEVELS_APART:
            yield from np.array_split(same, -(-len(same) // PAIRS_AT_ONCE))


def _resolve(pairs: Ints, videos: int) -> Ints:
    """(videos,) originals, -1 for the kept; `pairs` are sorted by the later video, then the earlier."""
    original = np.full(videos, -1, np.int64)
    for earlier, later in pairs.tolist():
        if original[earlier] < 0 and original[later] < 0:
            original[later] = earlier
    return original
