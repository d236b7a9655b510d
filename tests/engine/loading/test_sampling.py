"""Frames and windows are pure functions of (seed, epoch, key) and stay inside the video."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reelmill.engine import LoaderConfig
from reelmill.engine.loading.sampling import make_views, segment_frames

TRAIN = LoaderConfig(global_batch=1, frames=4, size=32, seed=1)


def view(config=TRAIN, *, epoch=0, key="k", frames=40, width=96.0, height=64.0):
    return make_views(config, epoch=epoch, key=key, frames=frames, width=width, height=height)


@given(
    frames=st.integers(1, 500),
    count=st.integers(1, 40),
    width=st.floats(2, 4000),
    height=st.floats(2, 4000),
    area=st.floats(0.05, 1),
    key=st.text(max_size=4),
)
def test_a_training_view_stays_inside(frames, count, width, height, area, key):
    config = LoaderConfig(global_batch=1, frames=count, min_crop_area=area)
    (found,) = make_views(config, epoch=3, key=key, frames=frames, width=width, height=height)
    assert len(found.frames) == count
    assert found.frames.min() >= 0
    assert found.frames.max() < frames
    assert (np.diff(found.frames) >= 0).all()
    for start, extent in zip(found.anchor, found.shape, strict=True):
        assert start >= 0
        assert 0 < extent <= 1
        assert start + extent <= 1 + 1e-9


def test_seed_epoch_and_key_change_the_view_and_nothing_else_does():
    def print_of(views):
        return tuple(views[0].frames), views[0].anchor, views[0].shape, views[0].mirror

    same = print_of(view())
    assert print_of(view()) == same
    others = [view(epoch=1), view(key="other"), view(LoaderConfig(global_batch=9, frames=4, size=32, seed=2))]
    assert all(print_of(other) != same for other in others)
    assert print_of(view(LoaderConfig(global_batch=64, frames=4, size=99, seed=1))) == same


def test_evaluation_takes_the_middle_of_every_segment():
    config = LoaderConfig(global_batch=1, frames=4, training=False)
    (found,) = view(config)
    assert found.frames.tolist() == [5, 15, 25, 35]
    assert not found.mirror
    assert np.allclose([*found.anchor, *found.shape], [0.0625, 20 / 96, 0.875, 56 / 96])


def test_evaluation_views_are_clips_by_crops():
    views = view(LoaderConfig(global_batch=1, frames=2, training=False, clips=2, crops=3))
    assert [v.frames.tolist() for v in views] == [[5, 25]] * 3 + [[15, 35]] * 3
    assert np.allclose([v.anchor for v in views[:3]], [(0, 0), (0, 1 / 6), (0, 1 / 3)])
    assert {v.shape for v in views} == {(1.0, 64 / 96)}


def test_a_tall_video_is_cropped_along_its_height():
    views = view(LoaderConfig(global_batch=1, training=False, crops=3), width=64, height=96)
    assert np.allclose([v.anchor for v in views], [(0, 0), (1 / 6, 0), (1 / 3, 0)])


def test_short_videos_repeat_frames():
    assert segment_frames(3, 8, np.full(8, 0.5)).tolist() == [0, 0, 0, 1, 1, 2, 2, 2]


def test_flip_is_drawn_as_often_as_asked():
    flips = [view(LoaderConfig(global_batch=1, flip=0.25), key=str(k))[0].mirror for k in range(2000)]
    assert 0.2 < np.mean(flips) < 0.3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"global_batch": 0}, "global_batch must be > 0, got 0"),
        ({"crops": 2, "training": False}, "crops must be 1 or 3, got 2"),
        ({"clips": 2}, "views must be 1 in training, got 2"),
        ({"min_crop_area": 0.0}, r"min_crop_area must be in \(0, 1\], got 0.0"),
        ({"flip": 1.5}, r"flip must be in \[0, 1\], got 1.5"),
        ({"window_shards": 0}, "window_shards must be > 0, got 0"),
    ],
)
def test_wrong_options_are_told(options, message):
    with pytest.raises(ValueError, match=message):
        LoaderConfig(**({"global_batch": 1} | options))
