"""FLOPs of a step, against the sum over the layers."""

from dataclasses import replace

import pytest
import torch
from reelmill.train.config import DataConfig, ModelConfig
from reelmill.train.step import Step

VISUAL, TEXT = 16, 8  # widths of the tiny towers
TOKENS = 5  # 2 x 2 patches and the class token


def block(tokens: int, width: int) -> int:
    """Of one block of a transformer, forward: projections, attention, a four times wider MLP."""
    return 2 * tokens * width * (4 * width + 8 * width) + 4 * tokens * tokens * width


@pytest.mark.parametrize("learns", ["all", "none"])
def test_the_flops_of_a_step_are_those_of_its_layers(tiny_method, tiny_config, tensor_loader, classes, learns):
    method = tiny_method()
    model = ModelConfig(text_learns=learns, video_learns=learns)
    method.model.learn(model)
    config = replace(tiny_config, data=DataConfig(frames=2), model=model, global_batch=4)
    step = Step(method, classes, config)

    frame = 2 * 4 * VISUAL * 3 * 8 * 8 + block(TOKENS, VISUAL) + 2 * VISUAL * 16
    texts = len(step.texts.strings)
    text = block(8, TEXT) + 2 * TEXT * 16
    scores = 2 * 2 * texts * 16
    times = {"all": 3, "none": 1}[learns]
    want = 4 * (2 * frame * times + scores * 3) + (texts * text * 3 if learns == "all" else 0)
    assert step.flops(tensor_loader().batch(torch.arange(4))) == pytest.approx(want, rel=0.02)
