"""What a sketch keeps of pictures: intervals that hold the truth, exact where a video differs from its background."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from reelmill.engine.media import sketch


def written(pictures_NX: list[list[int]] | np.ndarray, known: list[bool] | None = None) -> sketch.Sketch:
    """Through the words and back; grey levels."""
    pictures = np.asarray(pictures_NX, np.int64)
    told = np.ones(len(pictures), np.bool_) if known is None else np.array(known)
    words = sketch.words_of(pictures * 256, told, np.arange(len(pictures), dtype=np.uint8))
    assert words.shape == (sketch.BACKGROUND_WORDS + sketch.CELL_WORDS * len(pictures),)
    return sketch.read(words)


def still(count: int, changes: dict[tuple[int, int], int]) -> np.ndarray:
    pictures = np.zeros((count, sketch.PLACES), np.int64)
    for place, grey in changes.items():
        pictures[place] = grey
    return pictures


@given(arrays(np.int64, st.tuples(st.integers(1, 12), st.just(sketch.PLACES)), elements=st.integers(-250, 250)))
def test_every_interval_holds_the_picture(pictures_NX):
    found = written(pictures_NX)
    assert (found.low_NX <= pictures_NX).all()
    assert (pictures_NX <= found.high_NX).all()
    assert found.motion_N.tolist() == list(range(len(pictures_NX)))


def test_what_differs_from_the_background_is_exact_and_the_rest_is_noise():
    found = written(still(5, {(2, 9): 120, (3, 50): -80}))
    width_NX = found.high_NX - found.low_NX
    assert width_NX[2, 9] == width_NX[3, 50] == sketch.STEP
    assert (np.delete(width_NX[2], 9) == 2 * sketch.STEP * sketch.FLOOR + sketch.STEP).all()


def test_of_many_differences_the_largest_are_exact_and_bound_the_others():
    pictures = still(5, {})
    pictures[2] = np.arange(sketch.PLACES) * 3
    found = written(pictures)
    exact = found.high_NX[2] - found.low_NX[2] == sketch.STEP
    assert np.flatnonzero(exact).tolist() == list(range(sketch.PLACES - sketch.KEPT, sketch.PLACES))
    smallest = 3 * (sketch.PLACES - sketch.KEPT)
    assert (np.abs(found.high_NX[2, ~exact] - smallest) <= 2 * sketch.STEP).all()


def test_pictures_that_tell_nothing_have_no_part_in_the_background():
    pictures = still(5, {})
    pictures[2:] = 40
    shown = written(pictures, known=[True, True, False, False, False])
    assert (shown.high_NX[0] - shown.low_NX[0] == 2 * sketch.STEP * sketch.FLOOR + sketch.STEP).all()


def test_more_places_than_there_is_room_for_are_told():
    words = sketch.words_of(np.zeros((1, sketch.PLACES), np.int64), np.ones(1, np.bool_), np.zeros(1, np.uint8))
    words[sketch.BACKGROUND_WORDS] = np.uint64((1 << 16) - 1)
    with pytest.raises(ValueError, match="a cell of a sketch must keep at most 15 places, got 16"):
        sketch.read(words)
