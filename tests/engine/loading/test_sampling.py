"""Frames and windows are pure functions of (seed, epoch, key) and stay inside the video."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reelmill.engine import LoaderConfig
from reelmill.engine.loading.frames import dense_frames, segment_frames, timed_frames
from reelmill.engine.loading.sampling import PLAIN, Colours, Source, make_views

TRAIN = LoaderConfig(global_batch=1, frames=4, size=32, seed=1)


def view(config=TRAIN, *, epoch=0, key="k", frames=40, width=96.0, height=64.0):
    return make_views(config, Source(key, frames, width, height), epoch=epoch)


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
    (found,) = view(config, epoch=3, key=key, frames=frames, width=width, height=height)
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


def test_a_dense_clip_lies_in_its_room():
    assert dense_frames(40, 4, 3, 0.5, "last").tolist() == [15, 18, 21, 24]
    assert dense_frames(40, 4, 3, 0.0, "last").tolist() == [0, 3, 6, 9]
    assert dense_frames(40, 4, 3, 0.999, "last").tolist() == [30, 33, 36, 39]
    assert dense_frames(5, 4, 3, 0.7, "last").tolist() == [0, 3, 4, 4]
    assert dense_frames(5, 4, 3, 0.7, "loop").tolist() == [0, 3, 1, 4]
    config = LoaderConfig(global_batch=1, frames=4, training=False, sampling="dense", stride=3, clips=2)
    assert [v.frames.tolist() for v in view(config)] == [[7, 10, 13, 16], [23, 26, 29, 32]]
    every = LoaderConfig(global_batch=1, frames=4, sampling="every", short="loop")
    assert view(every, frames=3)[0].frames.tolist() == [0, 1, 2, 0]


def test_a_clip_by_seconds_shows_what_is_on_the_screen():
    times = np.array([5.0, 5.1, 5.2, 6.0, 6.1, 6.2, 7.0, 7.1, 7.2, 8.0])  # 30/9 s long: the last frame stays 1/3 s
    assert timed_frames(times, 4, 0.5, 0.0, "last").tolist() == [0, 2, 3, 5]
    assert timed_frames(times, 2, 3.0, 0.999, "last").tolist() == [2, 9]
    assert timed_frames(times, 5, 1.0, 0.5, "last").tolist() == [0, 3, 6, 9, 9]
    assert timed_frames(times, 5, 1.0, 0.5, "loop").tolist() == [0, 3, 6, 9, 2]
    assert timed_frames(times[:1], 3, 0.4, 0.5, "loop").tolist() == [0, 0, 0]
    config = LoaderConfig(global_batch=1, frames=2, training=False, sampling="seconds", seconds_apart=1.0)
    (found,) = make_views(config, Source("k", 10, 96, 64, times), epoch=0)
    assert found.frames.tolist() == [4, 7]  # from (30/9 - 1) / 2 = 1.17 s on


@given(
    times=st.lists(st.floats(0, 1e4), min_size=1, max_size=50).map(sorted),
    count=st.integers(1, 20),
    apart=st.floats(0.01, 10),
    offset=st.floats(0, 1, exclude_max=True),
    short=st.sampled_from(["last", "loop"]),
    stride=st.integers(1, 9),
)
def test_every_index_lies_in_the_video(times, count, apart, offset, short, stride):
    for indices in (
        timed_frames(np.array(times), count, apart, offset, short),
        dense_frames(len(times), count, stride, offset, short),
    ):
        assert indices.dtype == np.int64
        assert len(indices) == count
        assert ((indices >= 0) & (indices < len(times))).all()


def test_colours_are_drawn_once_for_a_clip_as_often_as_asked():
    assert view()[0].colours is PLAIN
    config = LoaderConfig(global_batch=1, colour_jitter=0.8, grey=0.2, jitter_strength=(0.4, 0.3, 0.2, 0.1))
    found = [view(config, key=str(k))[0].colours for k in range(2000)]
    grey = [colours.saturation == 0 for colours in found]
    assert 0.17 < np.mean(grey) < 0.23
    assert 0.77 < np.mean([colours.brightness != 1 for colours in found]) < 0.83
    assert Colours(saturation=0.0) in found
    for colours in found:
        assert abs(colours.brightness - 1) <= 0.4
        assert abs(colours.contrast - 1) <= 0.3
        assert colours.saturation == 0 or abs(colours.saturation - 1) <= 0.2
        assert abs(colours.hue) <= 36
    same = view(LoaderConfig(global_batch=1, frames=8))[0]
    assert view(LoaderConfig(global_batch=1, frames=8, colour_jitter=1.0))[0].anchor == same.anchor
    evaluated = LoaderConfig(global_batch=1, training=False, colour_jitter=1.0, grey=1.0)
    assert view(evaluated)[0].colours is PLAIN


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
        ({"stride": 0}, "stride must be > 0, got 0"),
        ({"seconds_apart": 0.0}, "seconds_apart must be > 0, got 0.0"),
        ({"grey": -0.1}, r"grey must be in \[0, 1\], got -0.1"),
        ({"jitter_strength": (0.1, 0.1, 0.1, 0.6)}, r"jitter_strength must be three numbers in \[0, 1\] and one in"),
        ({"window_shards": 0}, "window_shards must be > 0, got 0"),
    ],
)
def test_wrong_options_are_told(options, message):
    with pytest.raises(ValueError, match=message):
        LoaderConfig(**({"global_batch": 1} | options))
