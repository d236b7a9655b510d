"""Near duplicates among millions of fingerprints, without comparing all pairs.

Candidates come from multi-index hashing in the form of Manku et al., "Detecting near-duplicates for web crawling"
(WWW 2007; Norouzi et al., "Fast search in Hamming space with multi-index hashing", CVPR 2012, has the analysis): a
hash is cut into 5 blocks, and each of the 10 pairs of blocks is a table, so that two hashes that differ in up to 3 bits
share a bucket of at least one table, whatever the bits; with more bits most still do, and one of a video's hashes is
enough. A table is a sorted array, gone before the next one is made.

Within a bucket a hash is compared only with the first `BUCKET_WIDTH` videos there, in a crowded one (an intro, a test
card) only with the first. So comparisons of hashes grow linearly at worst, and yet a thousand copies of one video all
find the first of them. A candidate is verified by laying the two videos over each other in time.

A copy cut out of a video at any place is found in either order while `min_cells` of the longer one's cells remain, for
all that it shows lies in its source; two cuts of one video find each other when they share `min_share` of the shorter.
Long videos are exact only in so far as thinning kept the same pictures in both, which it mostly does. Where nothing
moves, a reversed copy is the same video.

Memory is about 60 bytes per hash beside the fingerprints themselves, time is that of ten sorts of all hashes.

Legend: W hashes (words), P pairs, A and B hashes of the pair's two videos, J places among B's.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from .fingerprint import MAX_CELLS, VERSION

BLOCKS = ((0, 13), (13, 13), (26, 13), (39, 13), (52, 12))  # first bit, bits
BUCKET_WIDTH = 8
CROWD = 256  # hashes of different videos in one bucket
PAIRS_AT_ONCE = 512  # bounds memory: 64 x 64 distances each
MAX_LEVELS_APART = 4  # of time resolution: beyond, too few cells are left to compare

FAR = 12  # bits
UNSHOWN = 255  # in place of a distance: one of the videos shows nothing there

Words = NDArray[np.uint64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, slots=True)
class DedupConfig:
    """When two videos count as near duplicates of each other."""

    max_distance: int = 8
    """Two videos are compared at all when some hash of one differs from some hash of the other in at most this many of
    its 64 bits, 0 to 31."""
    max_mean_distance: float = 4.5
    """Bits in which the hashes differ on average over the cells that both videos show when laid over each other; a
    cell counts `FAR` bits at most, so that a few wrong ones are forgiven. In [0, FAR)."""
    min_share: float = 0.6
    """Share of the shorter video's cells that the longer one must show too, in (0, 1]."""
    min_cells: int = 4
    """Cells that both must show, counted in the coarser cells of the two, >= 1: a video of fewer is never a
    duplicate."""

    def __post_init__(self) -> None:
        if not 0 <= self.max_distance <= 31:
            raise ValueError(f"max_distance must lie in 0 to 31, got {self.max_distance}")
        if not 0 <= self.max_mean_distance < FAR:
            raise ValueError(f"max_mean_distance must lie in [0, {FAR}), got {self.max_mean_distance}")
        if not 0 < self.min_share <= 1:
            raise ValueError(f"min_share must lie in (0, 1], got {self.min_share}")
        if self.min_cells < 1:
            raise ValueError(f"min_cells must be >= 1, got {self.min_cells}")


@dataclass(frozen=True, slots=True)
class Duplicates:
    """What a search found, and what it cost."""

    of: Ints
    """(videos,) index of the original of each video; -1 where the video is kept."""
    hash_comparisons: int
    """Pairs of single hashes compared."""
    video_comparisons: int
    """Pairs of videos laid over each other."""


@dataclass(frozen=True, slots=True)
class _Prints:
    """All fingerprints in flat arrays."""

    words_W: Words
    starts: Ints
    """(videos + 1,) where each video's hashes begin."""
    levels: Ints
    """(videos,) a cell of the video is 2**level of the shortest."""


def near_duplicates(prints: Iterable[bytes], config: DedupConfig | None = None, *, earlier: int = 0) -> Ints:
    """For each video the original that it duplicates; see `find_duplicates`."""
    return find_duplicates(prints, config, earlier=earlier).of


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
    flat = _flatten(list(prints))
    if not 0 <= earlier <= len(flat.levels):
        raise ValueError(f"earlier must lie in 0 to {len(flat.levels)} (the fingerprints given), got {earlier}")
    candidates, compared = _candidates(flat, earlier, config.max_distance)
    same = np.zeros(len(candidates), np.bool_)
    for rows in _batches(flat, candidates):
        same[rows] = _match(flat, candidates[rows], config)
    return Duplicates(_resolve(candidates[same], len(flat.levels)), compared, len(candidates))


def _flatten(blobs: list[bytes]) -> _Prints:
    sizes = np.fromiter(map(len, blobs), np.int64, len(blobs))
    for wrong in np.flatnonzero((sizes % 8 != 0) | (sizes == 8) | (sizes > 8 * (1 + MAX_CELLS))):
        raise ValueError(
            f"fingerprint {wrong} must be empty or a header and 1 to {MAX_CELLS} hashes, 8 bytes each, "
            f"got {sizes[wrong]} bytes"
        )
    words_W = np.frombuffer(b"".join(blobs), "<u8").astype(np.uint64, copy=False)
    ends = np.cumsum(sizes // 8)
    headers = np.zeros(len(blobs), np.uint64)
    full = sizes > 0
    heads = (ends - sizes // 8)[full]
    headers[full] = words_W[heads]
    for wrong in np.flatnonzero(full & ((headers >> 8) != VERSION << 48)):
        raise ValueError(f"fingerprint {wrong} must be of version {VERSION}, got the header {int(headers[wrong]):016x}")
    starts = np.concatenate([[0], ends - np.cumsum(full)])
    return _Prints(np.delete(words_W, heads), starts, (headers & 0xFF).astype(np.int64))


def _candidates(flat: _Prints, first_new: int, max_distance: int) -> tuple[Ints, int]:
    """(P, 2) pairs (earlier video, later new video) with at least one hash each that match, sorted by the later."""
    owners_W = np.repeat(np.arange(len(flat.levels), dtype=np.int32), np.diff(flat.starts))
    found, compared = np.empty(0, np.uint64), 0
    for left, right in combinations(BLOCKS, 2):
        places, buckets = _table(flat.words_W, owners_W, left, right)
        near = []
        for firsts, laters in _bucket_pairs(places, buckets, owners_W, first_new):
            distances = np.bitwise_count(flat.words_W[firsts] ^ flat.words_W[laters])
            close = distances <= max_distance
            compared += len(firsts)
            pair = owners_W[laters[close]].astype(np.uint64) << 32 | owners_W[firsts[close]].astype(np.uint64)
            near.append(np.unique(pair))
        found = np.unique(np.concatenate([found, *near]))
    pairs = np.stack([found & 0xFFFFFFFF, found >> 32], axis=1)
    return pairs.astype(np.int64), compared


def _table(words_W: Words, owners_W: NDArray[np.int32], *blocks: tuple[int, int]) -> tuple[Ints, Ints]:
    """Hashes that share a bucket with another video's: their places in `words_W`, and where in these a bucket begins.

    Both are sorted by bucket, then video; a video has one hash per bucket, its first.
    """
    keys_W = np.zeros(len(words_W), np.uint64)
    for first_bit, bits in blocks:
        keys_W <<= np.uint64(bits)
        keys_W |= (words_W >> np.uint64(first_bit)) & np.uint64((1 << bits) - 1)
    keys_W <<= np.uint64(32)
    keys_W |= np.arange(len(words_W), dtype=np.uint64)
    keys_W = keys_W[words_W != 0]
    keys_W.sort()
    places = (keys_W & np.uint64(0xFFFFFFFF)).astype(np.uint32)
    keys_W >>= np.uint64(32)
    new_key = np.diff(keys_W, prepend=np.uint64(1 << 63)) != 0
    once = new_key.copy()
    once[1:] |= np.diff(owners_W[places]) != 0
    places, new_key = places[once], new_key[once]
    alone = new_key & np.append(new_key[1:], True)
    return places[~alone].astype(np.int64), np.flatnonzero(new_key[~alone])


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


def _batches(flat: _Prints, pairs: Ints) -> Iterator[Ints]:
    """Rows of `pairs` that are compared together: few enough for memory, and of one ratio of time resolutions."""
    apart = flat.levels[pairs[:, 0]] - flat.levels[pairs[:, 1]]
    lengths = np.diff(flat.starts)[pairs].max(axis=1)
    order = np.lexsort((lengths, apart))
    for same in np.split(order, np.flatnonzero(np.diff(apart[order])) + 1):
        if len(same) and abs(apart[same[0]]) <= MAX_LEVELS_APART:
            yield from np.array_split(same, -(-len(same) // PAIRS_AT_ONCE))


def _match(flat: _Prints, pairs: Ints, config: DedupConfig) -> Bools:
    """(P,) whether the two videos match when laid over each other at some offset in time.

    Let A be the video of the coarser cells, each `ratio` cells of B long. The same moment lies in cells i of A and j of
    B with offset <= j - i * ratio <= offset + ratio, where the offset is one for the whole pair: a reversed copy fails,
    as its offsets go through all values.
    """
    pairs = pairs[:, ::-1] if flat.levels[pairs[0, 0]] < flat.levels[pairs[0, 1]] else pairs
    ratio = 2 ** int(np.abs(np.diff(flat.levels[pairs[0]]))[0])
    a_PA, b_PB = _padded(flat, pairs[:, 0]), _padded(flat, pairs[:, 1])
    nearest_PAJ = _nearest(a_PA, b_PB, ratio)
    shorter_P = np.minimum((a_PA != 0).sum(axis=1), (b_PB != 0).sum(axis=1) / ratio)
    needed_P = np.maximum(config.min_cells, config.min_share * shorter_P)
    same_P = np.zeros(len(pairs), np.bool_)
    cells_A, starts = np.arange(a_PA.shape[1]), nearest_PAJ.shape[2]
    for offset in range(-ratio * len(cells_A), starts):
        start_A = cells_A * ratio + offset
        laid_A = cells_A[(start_A >= 0) & (start_A < starts)]
        distance_PA = nearest_PAJ[:, laid_A, start_A[laid_A]]
        shown_P = (distance_PA != UNSHOWN).sum(axis=1)
        total_P = np.where(distance_PA != UNSHOWN, distance_PA, 0).sum(axis=1)
        same_P |= (shown_P >= needed_P) & (total_P <= config.max_mean_distance * shown_P)
    same_P &= shorter_P >= config.min_cells
    return same_P


def _nearest(a_PA: Words, b_PB: Words, ratio: int) -> NDArray[np.uint8]:
    """(P, A, B + ratio) bits from each of A's hashes to the nearest of B's at places J - ratio to J, at most `FAR`."""
    apart_PAB = np.minimum(np.bitwise_count(a_PA[:, :, None] ^ b_PB[:, None, :]), FAR)
    apart_PAB[(a_PA == 0)[:, :, None] | (b_PB == 0)[:, None, :]] = UNSHOWN
    padded = np.pad(apart_PAB, ((0, 0), (0, 0), (ratio, ratio)), constant_values=UNSHOWN)
    width = apart_PAB.shape[2] + ratio
    nearest_PAJ = padded[:, :, :width].copy()
    for step in range(1, ratio + 1):
        np.minimum(nearest_PAJ, padded[:, :, step : step + width], out=nearest_PAJ)
    return nearest_PAJ


def _padded(flat: _Prints, videos: Ints) -> Words:
    lengths = flat.starts[videos + 1] - flat.starts[videos]
    cells = np.arange(lengths.max())
    inside = cells < lengths[:, None]
    places = np.where(inside, flat.starts[videos][:, None] + cells, 0)
    return np.where(inside, flat.words_W[places], np.uint64(0))


def _resolve(pairs: Ints, videos: int) -> Ints:
    """(videos,) originals, -1 for the kept; `pairs` are sorted by the later video, then the earlier."""
    original = np.full(videos, -1, np.int64)
    for earlier, later in pairs.tolist():
        if original[earlier] < 0 and original[later] < 0:
            original[later] = earlier
    return original
