"""Rates by group, and the moving average of the weights."""

from dataclasses import replace

import pytest
import torch
from reelmill.shards.errors import UsageError
from reelmill.train.config import OptimizerConfig
from reelmill.train.optimizer import Average, learning_rate, make_optimizer, set_rate


def rates(method, config):
    """The rate of each weight by name."""
    optimizer = make_optimizer(method, config)
    set_rate(optimizer, config.lr)
    by_id = {id(weight): group["lr"] for group in optimizer.param_groups for weight in group["params"]}
    return {name: by_id[id(weight)] for name, weight in method.named_parameters() if id(weight) in by_id}


def test_text_own_weights_and_the_rest_have_their_rates(tiny_method):
    method = tiny_method()
    method.head = torch.nn.Linear(2, 2)
    found = rates(method, OptimizerConfig(lr=1e-3, text_lr=1e-5, own_lr=1e-1))
    assert found["head.bias"] == pytest.approx(1e-1)
    assert found["model.clip.token_embedding.weight"] == found["model.clip.text_projection"] == pytest.approx(1e-5)
    assert found["model.clip.visual.conv1.weight"] == found["model.clip.logit_scale"] == pytest.approx(1e-3)
    assert found.keys() == {name for name, _ in method.named_parameters()}


def test_the_rate_of_blocks_falls_towards_the_pixels(tiny_method):
    found = rates(tiny_method(), OptimizerConfig(lr=1.0, layer_decay=0.5))
    assert found["model.clip.visual.proj"] == found["model.clip.visual.ln_post.weight"] == 1.0
    assert found["model.clip.visual.transformer.resblocks.0.ln_1.weight"] == 0.5
    assert found["model.clip.visual.conv1.weight"] == 0.25
    assert found["model.clip.token_embedding.weight"] == 1.0


def test_what_is_frozen_is_in_no_group(tiny_method):
    method = tiny_method()
    method.model.clip.visual.requires_grad_(False)
    assert not [name for name in rates(method, OptimizerConfig()) if ".visual." in name]


def test_biases_and_norms_may_be_left_out_of_the_decay(tiny_method):
    optimizer = make_optimizer(tiny_method(), OptimizerConfig(weight_decay=0.1, decay="matrices"))
    for group in optimizer.param_groups:
        assert all((weight.dim() >= 2) == (group["weight_decay"] == 0.1) for weight in group["params"])
    (only,) = make_optimizer(tiny_method(), OptimizerConfig(weight_decay=0.1)).param_groups
    assert only["weight_decay"] == 0.1


@pytest.mark.parametrize(("kind", "made"), [("adamw", "AdamW"), ("adam", "Adam"), ("sgd", "SGD")])
def test_the_kind_is_the_one_asked_for(tiny_method, kind, made):
    optimizer = make_optimizer(tiny_method(), OptimizerConfig(kind=kind, momentum=0.5))
    assert type(optimizer).__name__ == made
    assert kind != "sgd" or optimizer.param_groups[0]["momentum"] == 0.5


def test_schedules_end_where_they_should():
    base = OptimizerConfig(lr=1.0, warmup=0.0)
    ends = {kind: learning_rate(99, 100, replace(base, schedule=kind)) for kind in ("cosine", "linear", "constant")}
    assert ends["constant"] == 1.0
    assert 0.01 < ends["cosine"] < 0.011
    assert ends["linear"] == pytest.approx(0.0199)


def test_the_average_follows_the_weights():
    layer = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(layer.weight, 1.0)
    average = Average(layer.named_parameters(), 0.75)
    want = 1.0
    for value in (3.0, 5.0):
        torch.nn.init.constant_(layer.weight, value)
        average.update()
        want = 0.75 * want + 0.25 * value
    average.swap()
    assert layer.weight.item() == pytest.approx(want)
    assert average.values["weight"].item() == 5.0
    average.swap()
    assert layer.weight.item() == 5.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"own_lr": 0.0}, "optimizer.own_lr must be > 0 and finite, got 0.0"),
        ({"text_lr": float("inf")}, "optimizer.text_lr must be > 0 and finite, got inf"),
        ({"clip_norm": -1.0}, "optimizer.clip_norm must be > 0 and finite, got -1.0"),
        ({"layer_decay": 0.0}, r"optimizer.layer_decay must be in \(0, 1\], got 0.0"),
        ({"average": 1.0}, r"optimizer.average must be in \[0, 1\), got 1.0"),
        ({"momentum": 1.0}, r"optimizer.momentum must be in \[0, 1\), got 1.0"),
    ],
)
def test_values_out_of_range_are_named(changes, message):
    with pytest.raises(UsageError, match=message):
        OptimizerConfig(**changes)
