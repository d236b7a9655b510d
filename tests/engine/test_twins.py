"""Which inputs repeat an earlier one: pure, and settled in input order."""

import pytest
from reelmill.engine.config import Dedup
from reelmill.engine.twins import Twins


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
