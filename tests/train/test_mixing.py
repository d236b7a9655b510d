"""Mixup and CutMix: pixels and labels in the same shares, and nothing of videos that do not count."""

from dataclasses import replace

import pytest
import torch
from reelmill.shards.errors import UsageError
from reelmill.train.config import DataConfig
from reelmill.train.methods import IGNORED, Targets
from reelmill.train.methods.method import cross_entropy
from reelmill.train.mixing import mix
from reelmill.train.step import Step

LABELS = torch.tensor([3, IGNORED, 5, 7, 9])


def make_data(name: str, value: float, *, multi_label: bool = False) -> DataConfig:
    if name == "mixup":
        return DataConfig(mixup=value, multi_label=multi_label)
    return DataConfig(cutmix=value, multi_label=multi_label)


def clips_of_labels(size=8):
    """Every pixel of a clip is its label."""
    return LABELS.float().view(-1, 1, 1, 1, 1, 1).expand(-1, 1, 2, 3, size, size).clone()


@pytest.mark.parametrize("config", [DataConfig(mixup=0.8), DataConfig(cutmix=1.0), DataConfig(mixup=0.8, cutmix=1.0)])
@pytest.mark.parametrize("seed", range(20))
def test_pixels_have_the_shares_of_the_labels(config, seed):
    mixed = mix(clips_of_labels(), LABELS, config, seed=seed)
    assert mixed is not None
    assert 0 <= mixed.share <= 1
    for clip, own, other in zip(mixed.clips_BVTCHW, LABELS.tolist(), mixed.partner_labels_B.tolist(), strict=True):
        if own == IGNORED:
            assert other == IGNORED
            assert torch.equal(clip, torch.full_like(clip, float(IGNORED)))
        else:
            assert other not in (own, IGNORED)
            assert clip.mean().item() == pytest.approx(mixed.share * own + (1 - mixed.share) * other, rel=1e-4)


def test_a_rectangle_is_the_same_in_all_frames():
    mixed = mix(clips_of_labels(32), LABELS, DataConfig(cutmix=1.0), seed=3)
    assert mixed is not None
    first, second = mixed.clips_BVTCHW[0, 0]
    assert torch.equal(first, second)
    assert set(first.unique().tolist()) == {3.0, float(mixed.partner_labels_B[0])}


def test_the_same_seed_mixes_alike_and_another_does_not():
    config = DataConfig(mixup=0.8, cutmix=1.0)
    draws = [mix(clips_of_labels(), LABELS, config, seed=seed) for seed in (1, 1, 2)]
    assert draws[0] is not None
    assert draws[1] is not None
    assert draws[2] is not None
    assert torch.equal(draws[0].clips_BVTCHW, draws[1].clips_BVTCHW)
    assert draws[0].share == draws[1].share != draws[2].share


def test_both_kinds_come_where_both_are_asked_for():
    config = DataConfig(mixup=0.8, cutmix=1.0)
    draws = [mix(clips_of_labels(32), LABELS, config, seed=seed) for seed in range(40)]
    whole = [draw is not None and len(draw.clips_BVTCHW[0].unique()) == 1 for draw in draws]
    assert 8 < sum(whole) < 32


def test_one_video_alone_is_not_mixed():
    labels = torch.tensor([3, IGNORED])
    assert mix(torch.zeros(2, 1, 1, 3, 4, 4), labels, DataConfig(mixup=1.0), seed=0) is None
    assert mix(clips_of_labels(), LABELS, DataConfig(), seed=0) is None


def test_the_loss_is_that_of_the_mixed_target():
    logits = torch.randn(3, 4, dtype=torch.float64)
    own, other, share = torch.tensor([0, 1, IGNORED]), torch.tensor([2, 0, IGNORED]), 0.3
    targets = Targets(own, torch.tensor(2.0, dtype=torch.float64), 0, partner_labels_B=other, share=share)
    found = targets.mean(lambda labels: cross_entropy(logits, labels, label_smoothing=0.1))
    soft = torch.zeros(2, 4, dtype=torch.float64)
    for row in range(2):
        soft[row, own[row]] += share
        soft[row, other[row]] += 1 - share
    soft = 0.9 * soft + 0.1 / 4
    torch.testing.assert_close(found, -(soft * logits[:2].log_softmax(1)).sum() / 2)


def test_a_step_learns_from_mixed_videos(tiny_method, classes, tiny_config, tensor_loader):
    losses = []
    for data in (DataConfig(), DataConfig(mixup=0.8), DataConfig(mixup=0.8)):
        step = Step(tiny_method(), classes, replace(tiny_config, data=data))
        losses.append(step(tensor_loader().batch(torch.arange(4)), 5).losses["classes"].item())
    assert losses[1] == losses[2] != losses[0]


def test_a_method_that_compares_videos_cannot_mix_them(tiny_method, classes, tiny_config):
    method = tiny_method()
    method.couples_videos = True
    config = replace(tiny_config, data=DataConfig(cutmix=1.0))
    with pytest.raises(UsageError, match="must be 0 for a method that compares videos with each other"):
        Step(method, classes, config)


@pytest.mark.parametrize("name", ["mixup", "cutmix"])
def test_values_that_cannot_be_are_named(name):
    with pytest.raises(UsageError, match=rf"data\.{name} must be >= 0 and finite, got -1\.0"):
        make_data(name, -1.0)
    with pytest.raises(UsageError, match=rf"data\.{name} must be 0 with multi_label, got 0\.5"):
        make_data(name, 0.5, multi_label=True)
