from typing import Any

import pytest
import torch
from reelmill.kernels import Segments
from reelmill.kernels.segments import TILE_COLUMNS, as_segments

ODD: Any = [3, 1.5]


def test_lengths_become_offsets_owners_and_order():
    segments = Segments.from_lengths([2, 5, 1, 5])
    assert segments.lengths == (2, 5, 1, 5)
    assert segments.offsets.tolist() == [0, 2, 7, 8, 13]
    assert segments.owners.tolist() == [0, 0, 1, 1, 1, 1, 1, 2, 3, 3, 3, 3, 3]
    assert segments.order.tolist() == [1, 3, 0, 2]
    assert (segments.longest, segments.total, len(segments)) == (5, 13, 4)
    assert segments.offsets.dtype == torch.int64


@pytest.mark.parametrize("offsets", [[0, 2, 7], torch.tensor([0, 2, 7]), torch.tensor([0, 2, 7], dtype=torch.int32)])
def test_offsets_say_the_same_as_lengths(offsets):
    assert Segments.from_offsets(offsets).lengths == (2, 5)
    assert Segments.from_lengths(torch.tensor([2, 5])).lengths == (2, 5)


def test_moving_keeps_the_host_side():
    moved = Segments.from_lengths([2, 5]).to("meta")
    assert moved.device.type == "meta"
    assert {moved.offsets.device.type, moved.owners.device.type, moved.order.device.type} == {"meta"}
    assert (moved.lengths, moved.longest, moved.total) == ((2, 5), 5, 7)


@pytest.mark.parametrize(
    ("lengths", "slot"),
    [([1] * 9, 4), ([4] * 100, 4), ([36] * 100, 8), ([33] * 8, 8), ([64] * 5, TILE_COLUMNS), ([500], TILE_COLUMNS)],
)
def test_the_slot_wastes_few_columns(lengths, slot):
    assert Segments.from_lengths(lengths).slot == slot


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Segments.from_lengths([]), "lengths must hold at least one class, got none"),
        (lambda: Segments.from_lengths([3, 0, 2]), "class 1 must have at least one row, got 0"),
        (lambda: Segments.from_lengths([3, -1]), "class 1 must have at least one row, got -1"),
        (lambda: Segments.from_lengths(ODD), "lengths must be integers, got 1.5"),
        (lambda: Segments.from_lengths([True]), "lengths must be integers, got True"),
        (lambda: Segments.from_lengths(torch.ones(2)), "lengths must be integers in one dimension, got torch.float32"),
        (lambda: Segments.from_lengths(torch.ones(2, 2, dtype=torch.int64)), r"dimension, got torch.int64 \(2, 2\)"),
        (lambda: Segments.from_offsets([1, 2]), r"offsets must start with 0, got \[1\]"),
        (lambda: Segments.from_offsets([]), "offsets must start with 0, got none"),
        (lambda: Segments.from_offsets([0]), "at least one class"),
        (lambda: Segments.from_offsets([0, 3, 3, 5]), "class 1 must have at least one row, got 0"),
        (lambda: Segments.from_offsets([0, 3, 2]), "class 1 must have at least one row, got -1"),
    ],
)
def test_wrong_segments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_segments_must_fit_the_text():
    with pytest.raises(ValueError, match=r"text_PD must have 7 rows \(those of the segments\), got 6"):
        as_segments(Segments.from_lengths([2, 5]), torch.zeros(6, 3))
    with pytest.raises(ValueError, match=r"segments must be on meta \(the device of text_PD\), got cpu"):
        as_segments(Segments.from_lengths([2, 5]), torch.zeros(7, 3, device="meta"))
