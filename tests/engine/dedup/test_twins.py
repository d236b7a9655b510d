"""Which inputs repeat an earlier one: pure, and settled in input order."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reelmill.engine.config import Dedup
from reelmill.engine.dedup.twins import LEVEL, REASONS, Twins
from reelmill.engine.media import sketch
from reelmill.engine.media.fingerprint import VERSION


def picture_print(seed: int) -> bytes:
    """Of some video; videos of different seeds are different."""
    rng = np.random.default_rng(seed)
    pictures = np.where(rng.random((8, sketch.PLACES)) < 0.2, 100, 0) * 256
    hashes = rng.integers(1, 2**64, 8, np.uint64)
    sketched = sketch.words_of(pictures, np.ones(8, np.bool_), np.zeros(8, np.uint8))
    return np.concatenate([np.array([VERSION << 56], np.uint64), hashes, sketched]).astype("<u8").tobytes()


OLD = bytes(7) + b"\x01" + bytes(range(1, 65))  # of version 1
PRINTS = [None, b"", OLD, *map(picture_print, range(3))]


def solve(
    prints: list[tuple[str, str]], dedup: Dedup = "stream", earlier: int = 0, spans: list[object] | None = None
) -> dict[int, tuple[int, str]]:
    twins = Twins(dedup)
    for number, (sha256, stream) in enumerate(prints):
        twins.add(10 * number, sha256, stream, None, spans[number] if spans else None)
    return {row: (twin, reason) for row, (twin, reason) in twins.solve(earlier).items()}


def test_the_first_of_equal_files_stays():
    assert solve([("a", "s"), ("b", "t"), ("a", "s"), ("a", "s")]) == {20: (0, "exact"), 30: (0, "exact")}
    assert solve([("a", "s"), ("a", "s")], dedup="none") == {}


def test_the_same_stream_in_another_container_counts_when_asked():
    assert solve([("a", "s"), ("b", "s")], dedup="exact") == {}
    assert solve([("a", "s"), ("b", "s")]) == {10: (0, "stream")}


def test_what_repeats_a_repeated_input_repeats_what_is_kept():
    chain = [("a", "s"), ("b", "s"), ("b", "s")]
    assert solve(chain) == {10: (0, "stream"), 20: (0, "stream")}


def test_other_spans_of_one_file_are_no_duplicates():
    assert solve([("a", "s")] * 3, spans=[(0, 1), (1, 2), (0, 1)]) == {20: (0, "exact")}


def test_earlier_generations_stay_whatever_they_repeat():
    assert solve([("a", "s"), ("b", "s"), ("b", "s")], earlier=2) == {20: (10, "exact")}


@pytest.mark.parametrize("missing", ["", None])
def test_an_input_without_a_fingerprint_repeats_nothing(missing):
    assert solve([(missing, missing), (missing, missing)]) == {}


Inputs = list[tuple[str | None, str | None, bytes | None, object]]
inputs = st.lists(
    st.tuples(
        st.sampled_from([None, "", "a", "b", "c"]),
        st.sampled_from([None, "", "s", "t"]),
        st.sampled_from(PRINTS),
        st.sampled_from([None, None, (0.0, 1.0)]),
    ),
    max_size=14,
)


@settings(deadline=None)
@given(inputs, st.sampled_from(["none", "exact", "stream", "perceptual"]), st.data())
def test_what_is_kept_repeats_nothing_before_it_and_every_twin_is_kept(
    found: Inputs, dedup: Dedup, data: st.DataObject
):
    earlier = data.draw(st.integers(0, len(found)))
    twins = Twins(dedup)
    for number, (sha256, stream, fingerprint, span) in enumerate(found):
        twins.add(3 * number, sha256, stream, fingerprint, span)
    solved = twins.solve(earlier)
    for row, (twin, reason) in solved.items():
        assert row % 3 == 0
        assert row // 3 >= earlier
        assert twin < row
        assert twin not in solved
        assert 1 <= REASONS.index(reason) <= LEVEL[dedup]
    kept = [number for number in range(len(found)) if 3 * number not in solved]
    for place, number in enumerate(kept):
        for before in kept[:place]:
            if number >= earlier:
                assert not _repeats(found[number], found[before], dedup)


def _repeats(one: tuple[object, ...], other: tuple[object, ...], dedup: Dedup) -> bool:
    """Whether one of the facts that this level of deduplication compares is the same in both."""
    same = [bool(one[level]) and one[level] == other[level] and one[3] == other[3] for level in (0, 1)]
    pictures = one[2] == other[2] and one[2] in PRINTS[3:] and one[3] is None and other[3] is None
    return any([*same, pictures][: LEVEL[dedup]])


@pytest.mark.parametrize("first", [OLD, picture_print(0)])
def test_a_fingerprint_of_an_older_version_repeats_nothing(first):
    twins = Twins("perceptual")
    for row, fingerprint in enumerate((first, OLD, picture_print(0))):
        twins.add(row, f"file {row}", f"stream {row}", fingerprint)
    assert twins.solve(earlier=2) == ({} if first == OLD else {2: (0, "perceptual")})


def test_what_repeats_a_perceptual_twin_repeats_what_is_kept():
    twins = Twins("perceptual")
    for row, (sha256, seed) in enumerate([("a", 1), ("b", 1), ("b", 1), ("c", 2)]):
        twins.add(row, sha256, f"stream of {sha256}", picture_print(seed))
    assert twins.solve() == {1: (0, "perceptual"), 2: (0, "perceptual")}
