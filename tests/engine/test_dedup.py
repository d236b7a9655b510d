"""Near duplicates: what matches, what does not, in which order, and that the cost stays small."""

import numpy as np
import pytest
from numpy.typing import NDArray
from reelmill.engine.dedup import BUCKET_WIDTH, CROWD, DedupConfig, find_duplicates, near_duplicates
from reelmill.engine.fingerprint import VERSION

Hashes = NDArray[np.uint64]


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def some(rng: np.random.Generator, cells: int = 20) -> Hashes:
    return rng.integers(1, 2**64, cells, np.uint64)


def flip(hashes: Hashes, bits: int, first: int = 0) -> Hashes:
    """The same bits of every hash; those of calls with other `first` lie elsewhere."""
    return hashes ^ np.uint64(sum(1 << (first + 7 * bit) % 64 for bit in range(bits)))


def as_print(hashes: Hashes, level: int = 0) -> bytes:
    header = np.array([VERSION << 56 | level], np.uint64)
    return np.concatenate([header, hashes]).astype("<u8").tobytes()


def originals(*videos: Hashes, config: DedupConfig | None = None, earlier: int = 0) -> list[int]:
    found: list[int] = near_duplicates([as_print(video) for video in videos], config, earlier=earlier).tolist()
    return found


def test_a_copy_is_a_duplicate_of_the_first_of_its_kind(rng):
    a, b = some(rng), some(rng)
    assert originals(a, b, a, flip(b, 2), flip(a, 3)) == [-1, -1, 0, 1, 0]


def test_the_mean_distance_decides(rng):
    a = some(rng)
    assert originals(a, flip(a, 3), config=DedupConfig(max_mean_distance=3)) == [-1, 0]
    assert originals(a, flip(a, 3), config=DedupConfig(max_mean_distance=2.9)) == [-1, -1]


def test_a_few_wrong_pictures_are_forgiven(rng):
    a = some(rng)
    copy = a.copy()
    copy[3:6] = some(rng, 3)
    assert originals(a, copy) == [-1, 0]
    copy[:10] = some(rng, 10)
    assert originals(a, copy) == [-1, -1]


@pytest.mark.parametrize("kept", [slice(10, None), slice(None, 10), slice(5, 15), slice(7, 11)])
def test_a_cut_is_a_duplicate_in_either_order(rng, kept):
    a = some(rng)
    assert originals(a, a[kept]) == [-1, 0]
    assert originals(a[kept], a) == [-1, 0]


def test_two_cuts_must_share_enough(rng):
    a = some(rng, 30)
    assert originals(a[:20], a[8:28]) == [-1, 0]  # 12 of 20
    assert originals(a[:20], a[10:]) == [-1, -1]


def test_a_reversed_copy_is_kept(rng):
    a = some(rng)
    assert originals(a, a[::-1]) == [-1, -1]


def test_the_same_pictures_in_another_order_are_kept(rng):
    a = some(rng)
    assert originals(a, rng.permutation(a)) == [-1, -1]


def test_few_cells_are_never_a_duplicate(rng):
    a = some(rng)
    assert originals(a, a[:3]) == [-1, -1]
    assert originals(a, a[:3], config=DedupConfig(min_cells=3)) == [-1, 0]


def test_pictures_that_tell_nothing_make_nothing_equal(rng):
    a, b = some(rng), some(rng)
    a[5:] = b[5:] = 0
    assert originals(a, b, np.zeros(20, np.uint64), np.zeros(20, np.uint64)) == [-1, -1, -1, -1]


def test_pictures_that_tell_nothing_keep_their_place(rng):
    a = some(rng)
    black = np.zeros(6, np.uint64)
    assert originals(a, np.concatenate([black, a, black])) == [-1, 0]
    assert originals(a, np.concatenate([a[:10], black, a[10:]]), config=DedupConfig(min_share=0.9)) == [-1, -1]


def test_empty_fingerprints_are_kept(rng):
    a = as_print(some(rng))
    assert near_duplicates([b"", a, b"", a]).tolist() == [-1, -1, -1, 1]
    assert near_duplicates([]).tolist() == []
    assert near_duplicates([b""]).tolist() == [-1]


@pytest.mark.parametrize("phase", [0, 1])
def test_a_long_video_and_a_cut_of_it_in_shorter_cells(rng, phase):
    """A cell of the longer one holds one of the pictures of two or four of the shorter one's."""
    fine = some(rng, 60)
    for level in (1, 2):
        width = 2**level
        picks = [start + rng.integers(width) for start in range(phase, 60 - width, width)]
        coarse = as_print(np.concatenate([some(rng, 15), fine[picks], some(rng, 15)]), level)
        assert near_duplicates([coarse, as_print(fine)]).tolist() == [-1, 0]
        assert near_duplicates([as_print(fine), coarse]).tolist() == [-1, 0]
        assert near_duplicates([coarse, as_print(fine[::-1])]).tolist() == [-1, -1]


def test_a_chain_ends_at_what_is_kept(rng):
    a = some(rng)
    b, c = flip(a, 4), flip(flip(a, 4), 4, first=3)
    assert originals(b, c) == [-1, 0]
    assert originals(a, b, c) == [-1, 0, -1]  # b is gone, and c is too far from a
    assert originals(b, a, c) == [-1, 0, 0]


def test_earlier_generations_stay_and_win(rng):
    a, b = some(rng), some(rng)
    assert originals(a, flip(a, 1), b, a, flip(b, 1), earlier=3) == [-1, -1, -1, 0, 2]
    assert originals(a, flip(a, 1), earlier=2) == [-1, -1]
    for earlier in (-1, 3):
        with pytest.raises(ValueError, match=rf"earlier must lie in 0 to 2 \(the fingerprints given\), got {earlier}"):
            originals(a, b, earlier=earlier)


def test_generations_one_by_one_find_what_all_at_once_finds(rng):
    videos = [some(rng) for _ in range(30)]
    videos += [flip(videos[rng.integers(30)], rng.integers(4), rng.integers(64)) for _ in range(30)]
    at_once = originals(*videos)
    assert sum(original >= 0 for original in at_once) == 30
    for split in (1, 29, 30, 45):
        kept = [i for i in range(split) if at_once[i] < 0]
        found = originals(*(videos[i] for i in kept), *videos[split:], earlier=len(kept))[len(kept) :]
        names = kept + list(range(split, len(videos)))
        assert [original if original < 0 else names[original] for original in found] == at_once[split:]


def test_other_videos_have_no_say(rng):
    family = [some(rng) for _ in range(10)]
    family += [flip(video[:15], 2) for video in family]
    strangers = [some(rng) for _ in range(40)]
    want = originals(*family)
    places = np.sort(rng.permutation(60)[:20])  # the family keeps its order among strangers in any
    for _ in range(3):
        order = iter(rng.permutation(40))
        mixed = [strangers[next(order)] for _ in range(60 - 20)]
        for place, video in zip(places.tolist(), family, strict=True):
            mixed.insert(place, video)
        found = originals(*mixed)
        expected = dict(zip(places.tolist(), (o if o < 0 else int(places[o]) for o in want), strict=True))
        assert found == [expected.get(i, -1) for i in range(60)]


def test_a_common_intro_does_not_make_duplicates_nor_many_comparisons(rng):
    intro = some(rng, 8)
    videos = [np.concatenate([intro, some(rng, 12)]) for _ in range(2 * CROWD)]
    prints = [as_print(video) for video in [*videos, videos[77], videos[400]]]
    found = find_duplicates(prints)
    assert np.flatnonzero(found.of >= 0).tolist() == [2 * CROWD, 2 * CROWD + 1]
    assert found.of[-2:].tolist() == [77, 400]
    assert found.video_comparisons < len(prints) * 2


def test_a_thousand_copies_of_one_video_all_find_the_first(rng):
    a = some(rng)
    found = find_duplicates([as_print(flip(a, 1, int(first))) for first in rng.integers(0, 64, 1000)])
    assert found.of.tolist() == [-1] + [0] * 999
    assert found.video_comparisons < 1000 * 10 * BUCKET_WIDTH


def test_random_videos_are_hardly_ever_compared(rng):
    prints = [as_print(some(rng)) for _ in range(3000)]
    found = find_duplicates(prints)
    assert (found.of == -1).all()
    assert found.hash_comparisons < 3000 * 10
    assert found.video_comparisons == 0


@pytest.mark.parametrize(
    ("blob", "message"),
    [
        (b"x" * 12, "fingerprint 1 must be empty or a header and 1 to 64 hashes, 8 bytes each, got 12 bytes"),
        (as_print(np.empty(0, np.uint64)), "1 must be empty or a header and 1 to 64 hashes, 8 bytes each, got 8 bytes"),
        (
            as_print(np.ones(65, np.uint64)),
            "1 must be empty or a header and 1 to 64 hashes, 8 bytes each, got 528 bytes",
        ),
        (b"x" * 16, "fingerprint 1 must be of version 1, got the header 7878787878787878"),
    ],
)
def test_a_malformed_fingerprint_is_told(rng, blob, message):
    with pytest.raises(ValueError, match=message):
        near_duplicates([as_print(some(rng)), blob])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_distance": 32}, "max_distance must lie in 0 to 31, got 32"),
        ({"max_mean_distance": 12.0}, r"max_mean_distance must lie in \[0, 12\), got 12.0"),
        ({"min_share": 0.0}, r"min_share must lie in \(0, 1\], got 0.0"),
        ({"min_cells": 0}, "min_cells must be >= 1, got 0"),
    ],
)
def test_a_wrong_threshold_is_told(options, message):
    with pytest.raises(ValueError, match=message):
        DedupConfig(**options)
