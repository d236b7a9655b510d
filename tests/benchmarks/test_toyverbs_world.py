import itertools
import re

import numpy as np
import pytest
from reelmill.benchmarks.toyverbs.world import NOUNS, SCENES, VERBS, path, render


def test_same_seed_same_frames_and_another_seed_others():
    first, again = (render("throw", "moon", seed=(3, 4)) for _ in range(2))
    other = render("throw", "moon", seed=(3, 5))
    assert first.frames_THWC.shape == (36, 64, 64, 3)
    assert first.frames_THWC.dtype == np.uint8
    np.testing.assert_array_equal(first.frames_THWC, again.frames_THWC)
    assert (first.frames_THWC != other.frames_THWC).any()


@pytest.mark.parametrize(("verb", "twin"), [("push", "pull"), ("lift", "drop"), ("grow", "shrink")])
def test_order_twins_go_the_same_way_in_reverse(verb, twin):
    progress_T = np.linspace(0, 1, 9, dtype=np.float32)
    there, back = path(verb, progress_T), path(twin, 1 - progress_T)
    for one, other in zip(there, back, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_no_two_verbs_share_a_path():
    progress_T = np.linspace(0, 1, 25, dtype=np.float32)
    for one, other in itertools.combinations(VERBS, 2):
        gap = np.abs(np.stack(path(one, progress_T)) - np.stack(path(other, progress_T)))
        assert gap.max() > 0.3, (one, other)


def test_all_but_the_path_is_drawn_from_the_seed_alone():
    """Scene, colour and timing must tell nothing about the verb."""
    clips = [render(verb, "box", seed=11) for verb in VERBS]
    assert len({clip.scene for clip in clips}) == 1
    brightest = [clip.frames_THWC.max(axis=(0, 1, 2)).astype(int) for clip in clips]
    assert np.ptp(brightest, axis=0).max() <= 1
    push, pull = (next(clip for clip in clips if clip.verb == verb) for verb in ("push", "pull"))
    np.testing.assert_array_equal(np.diff(push.x_T) == 0, np.diff(pull.x_T) == 0)


@pytest.mark.parametrize("width", [64, 86])
@pytest.mark.parametrize("verb", VERBS)
def test_the_object_is_where_the_clip_says(verb, width):
    clip = render(verb, "ball", seed=2, width=width)
    red_THW = clip.frames_THWC[..., 0] > 190  # the ball is red, no backdrop of this seed is
    across = np.array([np.nonzero(red_HW)[1].mean() for red_HW in red_THW])
    down = np.array([np.nonzero(red_HW)[0].mean() for red_HW in red_THW])
    whole = red_THW[:, 0].sum(1) + red_THW[:, -1].sum(1) + red_THW[:, :, 0].sum(1) + red_THW[:, :, -1].sum(1) == 0
    assert whole.sum() >= 5
    np.testing.assert_allclose(across[whole] + 0.5, width * (0.2 + 0.6 * clip.x_T[whole]), atol=1)
    np.testing.assert_allclose(down[whole] + 0.5, 64 * (0.2 + 0.6 * clip.y_T[whole]), atol=1)
    area = red_THW[whole].sum((1, 2))
    np.testing.assert_allclose(np.sqrt(area / np.pi), 64 * (0.09 + 0.15 * clip.size_T[whole]), atol=1)


def test_nouns_differ_in_shape():
    masks = {}
    for noun in NOUNS:
        clip = render("shake", noun, seed=2)
        frame_HWC = clip.frames_THWC[0].astype(int)
        masks[noun] = np.abs(frame_HWC - np.median(frame_HWC, axis=(0, 1))).max(-1) > 90
    for one, other in itertools.combinations(NOUNS, 2):
        overlap = (masks[one] & masks[other]).sum() / (masks[one] | masks[other]).sum()
        assert overlap < 0.85, (one, other)


def test_scenes_all_come_up():
    assert {render("push", "ball", seed=seed, frames=2, height=16, width=16).scene for seed in range(40)} == set(SCENES)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: render("kick", "ball", seed=0), "verb must be one of push, pull"),
        (lambda: render("push", "dog", seed=0), "noun must be one of ball, box, .* got 'dog'"),
        (lambda: render("push", "ball", seed=0, frames=1), "at least 2 frames of 16x16, got 1 of 64x64"),
        (lambda: render("push", "ball", seed=0, width=8), re.escape("got 36 of 8x64")),
    ],
)
def test_wrong_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
