"""The order is pinned: golden values hold the generator and the order in place over versions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reelmill.shards.order import epoch_order, permutation, philox, random_words, uniforms

GOLDEN_GLOBAL = [10, 4, 7, 2, 11, 3, 9, 6, 0, 5, 1, 8]
GOLDEN_WINDOWED = [11, 9, 10, 7, 8, 2, 1, 0, 6, 3, 5, 4]
GOLDEN_UNIFORMS = [0.5052065824173146, 0.8492144547033353]
SIZES = st.lists(st.integers(0, 9), min_size=1, max_size=12)


@pytest.mark.parametrize(
    ("counter", "key", "want"),
    [  # known answers of Random123's philox4x32-10
        ([0, 0, 0, 0], (0, 0), [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        ([0xFFFFFFFF] * 4, (0xFFFFFFFF, 0xFFFFFFFF), [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            (0xA4093822, 0x299F31D0),
            [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
        ),
    ],
)
def test_philox_gives_the_published_answers(counter, key, want):
    assert philox(np.array(counter, np.uint32), key).tolist() == want


def test_golden_order():
    assert epoch_order([3, 4, 5], seed=7, epoch=0).tolist() == GOLDEN_GLOBAL
    assert epoch_order([3, 4, 5], seed=7, epoch=0, window_shards=1).tolist() == GOLDEN_WINDOWED
    assert uniforms(2, "view", 0).tolist() == GOLDEN_UNIFORMS


@given(sizes=SIZES, seed=st.integers(-5, 5), epoch=st.integers(0, 3), window=st.none() | st.integers(1, 13))
def test_every_sample_comes_once(sizes, seed, epoch, window):
    order = epoch_order(sizes, seed=seed, epoch=epoch, window_shards=window)
    assert sorted(order.tolist()) == list(range(sum(sizes)))


@given(sizes=SIZES, window=st.integers(1, 13))
def test_a_window_holds_whole_shards(sizes, window):
    shard_of = np.repeat(np.arange(len(sizes)), sizes)
    seen = shard_of[epoch_order(sizes, seed=1, epoch=2, window_shards=window)]
    spans = [(np.flatnonzero(seen == shard).min(), np.flatnonzero(seen == shard).max()) for shard in set(seen.tolist())]
    for place in range(len(seen)):
        assert sum(first <= place <= last for first, last in spans) <= window


def test_seed_and_epoch_change_the_order():
    orders = {tuple(epoch_order([50], seed=seed, epoch=epoch).tolist()) for seed in (0, 1) for epoch in (0, 1)}
    assert len(orders) == 4


def test_words_do_not_depend_on_how_many_are_asked():
    assert random_words(5, "a").tolist() == random_words(9, "a")[:5].tolist()


def test_permutation_is_uniform_enough():
    """Each value lands in each place about equally often: chi-square with 15 degrees of freedom, far below 60."""
    places = np.array([permutation(16, seed).tolist().index(3) for seed in range(1600)])
    counts = np.bincount(places, minlength=16)
    assert ((counts - 100) ** 2 / 100).sum() < 60


def test_window_must_be_positive():
    with pytest.raises(ValueError, match="window_shards must be >= 1 or None, got 0"):
        epoch_order([3], seed=0, epoch=0, window_shards=0)
