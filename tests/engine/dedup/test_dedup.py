"""Near duplicates: what matches, what does not, in which order, and that the cost stays small."""

import re

import numpy as np
import pytest
from numpy.typing import NDArray
from reelmill.engine.dedup import search as dedup
from reelmill.engine.dedup.config import DedupConfig
from reelmill.engine.dedup.search import BUCKET_WIDTH, CROWD, find_duplicates
from reelmill.engine.media import sketch
from reelmill.engine.media.fingerprint import MAX_CELLS, VERSION

CELL = np.dtype([("hash", np.uint64), ("picture", np.int16, (sketch.PLACES,)), ("motion", np.uint8)])
Cells = NDArray[np.void]

V1 = bytes(7) + b"\x01" + bytes(range(1, 41))  # a fingerprint as version 1 wrote them: no sketch


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def some(rng: np.random.Generator, cells: int = 20) -> Cells:
    """Cells of different pictures, in each of which some places differ from grey."""
    found = np.zeros(cells, CELL)
    found["hash"] = rng.integers(1, 2**64, cells, np.uint64)
    for picture in found["picture"]:
        picture[rng.permutation(sketch.PLACES)[:8]] = rng.choice([-100, 100], 8)
    return found


def flip(cells: Cells, bits: int, first: int = 0) -> Cells:
    """The same bits of every hash; those of calls with other `first` lie elsewhere. The pictures stay."""
    copy = cells.copy()
    copy["hash"] ^= np.uint64(sum(1 << (first + 7 * bit) % 64 for bit in range(bits)))
    return copy


def as_print(cells: Cells, level: int = 0) -> bytes:
    words = np.concatenate([np.array([VERSION << 56 | level], np.uint64), cells["hash"]])
    if len(cells):
        pictures = cells["picture"].astype(np.int64) * 256
        known = np.ones(len(cells), np.bool_)
        words = np.concatenate([words, sketch.words_of(pictures, known, cells["motion"])])
    return words.astype("<u8").tobytes()


def originals(*videos: Cells, config: DedupConfig | None = None, earlier: int = 0) -> list[int]:
    found: list[int] = find_duplicates([as_print(video) for video in videos], config, earlier=earlier).of.tolist()
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
    copy[3:5] = some(rng, 2)
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
    a[5:] = b[5:] = np.zeros((), CELL)
    assert originals(a, b, np.zeros(20, CELL), np.zeros(20, CELL)) == [-1, -1, -1, -1]


def test_pictures_that_tell_nothing_keep_their_place(rng):
    a = some(rng)
    black = np.zeros(6, CELL)
    assert originals(a, np.concatenate([black, a, black])) == [-1, 0]
    assert originals(a, np.concatenate([a[:10], black, a[10:]]), config=DedupConfig(min_share=0.9)) == [-1, -1]


def test_empty_fingerprints_are_kept(rng):
    a = as_print(some(rng))
    assert find_duplicates([b"", a, b"", a]).of.tolist() == [-1, -1, -1, 1]
    assert find_duplicates([]).of.tolist() == []
    assert find_duplicates([b""]).of.tolist() == [-1]


@pytest.mark.parametrize("phase", [0, 1])
def test_a_long_video_and_a_cut_of_it_in_shorter_cells(rng, phase):
    """A cell of the longer one holds one of the pictures of two or four of the shorter one's."""
    fine = some(rng, 32)
    for level in (1, 2):
        width = 2**level
        picks = [start + rng.integers(width) for start in range(phase, 32 - width, width)]
        coarse = as_print(np.concatenate([some(rng, 8), fine[picks], some(rng, 8)]), level)
        assert find_duplicates([coarse, as_print(fine)]).of.tolist() == [-1, 0]
        assert find_duplicates([as_print(fine), coarse]).of.tolist() == [-1, 0]
        assert find_duplicates([coarse, as_print(fine[::-1])]).of.tolist() == [-1, -1]


def test_a_chain_ends_at_what_is_kept(rng):
    a = some(rng)
    b, c = flip(a, 3), flip(flip(a, 3), 3, first=3)
    close = DedupConfig(max_mean_distance=4)
    assert originals(b, c, config=close) == [-1, 0]
    assert originals(a, b, c, config=close) == [-1, 0, -1]  # b is gone, and c is too far from a
    assert originals(b, a, c, config=close) == [-1, 0, 0]


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
    assert found.hash_comparisons < 3000 * 20 * 2
    assert found.video_comparisons == 0


def test_hashes_do_not_decide_what_the_pictures_deny(rng):
    """A still scene has one hash throughout; what moves in it tells one stretch of time from another."""
    a = some(rng)
    b = a.copy()
    b["picture"] = some(rng)["picture"]
    assert originals(a, b, a) == [-1, -1, 0]


def beside(cells: Cells, places: int) -> tuple[Cells, Cells]:
    """A video in which nothing moves, and one that is 8 grey levels off in some places: 2 beyond both intervals."""
    a = cells.copy()
    a["picture"] = a["picture"][0]
    b = a.copy()
    b["picture"][:, :places] += 8
    return a, b


def test_the_gap_decides(rng):
    a, b = beside(some(rng), places=sketch.PLACES)
    assert originals(a, b, config=DedupConfig(max_gap=1.9)) == [-1, -1]
    assert originals(a, b, config=DedupConfig(max_gap=2.0)) == [-1, 0]


def test_longer_cells_must_agree_better(rng):
    for places, matching in ((8, 1), (3, 2), (1, 4)):  # gaps of 0.7, 0.43 and 0.25
        a, b = beside(some(rng), places)
        assert [find_duplicates([as_print(a, level), as_print(b, level)]).of.tolist()[1] for level in range(4)] == [
            0 if level < matching else -1 for level in range(4)
        ]


def test_what_moves_must_not_be_lost(rng):
    a = some(rng)
    a["motion"][3:13] = 60
    copy = a.copy()
    copy["motion"][3:13] = 30  # less, but not still
    assert originals(a, copy) == [-1, 0]
    copy["motion"][3:13] = 2
    assert originals(a, copy) == [-1, -1]
    assert originals(a, copy, config=DedupConfig(max_lost_motion=1.0)) == [-1, 0]


def test_a_stretch_where_nothing_moves_is_no_evidence(rng):
    """Two looks of a still camera share the empty scene, and what passes through it does so outside."""
    scene = some(rng, 1).repeat(26)
    first, second = scene.copy(), scene.copy()
    passing = some(rng, 16)["picture"]
    first["picture"][:8], first["motion"][:8] = passing[:8], 60
    second["picture"][-8:], second["motion"][-8:] = passing[8:], 60
    assert originals(first, second, config=DedupConfig(min_share=0.3)) == [-1, -1]
    assert originals(scene, scene[5:]) == [-1, 0]


def test_an_unknown_motion_matches_any(rng):
    a = some(rng)
    a["motion"] = 60
    copy = a[5:].copy()
    copy["motion"][0] = sketch.UNKNOWN
    assert originals(a, copy) == [-1, 0]


def test_fingerprints_of_older_versions_match_nothing(rng):
    a = as_print(some(rng))
    assert find_duplicates([V1, V1, a, V1, a], earlier=2).of.tolist() == [-1, -1, -1, -1, 2]
    assert find_duplicates([V1, V1]).of.tolist() == [-1, -1]


def test_comparisons_are_bounded_whatever_the_hashes(rng):
    """Half of all hashes are a few: buckets are full, and yet nothing is compared with all of a bucket."""
    common = some(rng, 10)
    videos = [np.concatenate([common[rng.permutation(10)], some(rng, 10)]) for _ in range(400)]
    found = find_duplicates([as_print(video) for video in videos])
    assert found.hash_comparisons <= 400 * 20 * 10 * BUCKET_WIDTH


def test_tables_in_parts_find_the_same(rng, monkeypatch):
    videos = [some(rng) for _ in range(60)]
    prints = [as_print(video) for video in [*videos, *(flip(video, 2) for video in videos)]]
    whole = find_duplicates(prints)
    monkeypatch.setattr(dedup, "TABLE_HASHES", 500)
    monkeypatch.setattr(dedup, "KEYS_AT_ONCE", 70)
    in_parts = find_duplicates(prints)
    assert in_parts.of.tolist() == whole.of.tolist() == [-1] * 60 + list(range(60))
    assert in_parts.hash_comparisons == whole.hash_comparisons


def test_comparisons_grow_with_the_hashes_not_with_their_square(rng):
    counts = []
    rest = as_print(some(rng))[8 + 8 * 20 :]
    header = (VERSION << 56).to_bytes(8, "little")
    for videos in (5_000, 20_000):
        prints = [header + rng.bytes(8 * 20) + rest for _ in range(videos)]
        counts.append(find_duplicates(prints).hash_comparisons)
    assert counts[1] < 6 * counts[0]


def malformed(cells: Cells) -> bytes:
    """A sketch with more places kept than there is room for."""
    blob = bytearray(as_print(cells))
    first = 8 + 8 * len(cells) + 8 * sketch.BACKGROUND_WORDS
    blob[first : first + 2] = b"\xff\xff"
    return bytes(blob)


def test_a_malformed_sketch_is_told(rng):
    a = some(rng)
    wrong = "fingerprint 1: a cell of a sketch must keep at most 15 places, got "
    with pytest.raises(ValueError, match=wrong):
        find_duplicates([as_print(a), malformed(a)])


SIZES = "fingerprint 1 must be empty or hold 1 to 32 cells (72 bytes, and 32 for each), got "


@pytest.mark.parametrize(
    ("blob", "message"),
    [
        (as_print(np.zeros(2, CELL)) + b"x", SIZES + "137 bytes"),
        (as_print(np.empty(0, CELL)), SIZES + "8 bytes"),
        (as_print(np.ones(MAX_CELLS + 1, CELL)), SIZES + "1128 bytes"),
        (b"x" * 16, "fingerprint 1 must be of version 2 or older, got the bytes 7878787878787878"),
        (b"x" * 7, "fingerprint 1 must be of version 2 or older, got the bytes 78787878787878"),
        (bytes(7) + b"\x03" + bytes(96), "fingerprint 1 must be of version 2 or older, got the bytes 0000000000000003"),
        (bytes(136), "fingerprint 1 must be of version 2 or older, got the bytes 0000000000000000"),
    ],
)
def test_a_malformed_fingerprint_is_told(rng, blob, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        find_duplicates([as_print(some(rng)), blob])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_distance": 32}, "max_distance must lie in 0 to 31, got 32"),
        ({"max_mean_distance": 16.0}, r"max_mean_distance must lie in \[0, 16\), got 16.0"),
        ({"max_gap": 4.0}, r"max_gap must lie in \[0, 4\), got 4.0"),
        ({"max_lost_motion": 1.1}, r"max_lost_motion must lie in \[0, 1\], got 1.1"),
        ({"min_share": 0.0}, r"min_share must lie in \(0, 1\], got 0.0"),
        ({"min_cells": 1}, "min_cells must be >= 2, got 1"),
    ],
)
def test_a_wrong_threshold_is_told(options, message):
    with pytest.raises(ValueError, match=message):
        DedupConfig(**options)
