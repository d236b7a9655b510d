"""Attention over time: nothing at first, then it knows the order of frames; its weights are kept with the run's."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from reelmill.shards.errors import UsageError
from reelmill.train.config import ModelConfig
from reelmill.train.model import VideoTextModel
from reelmill.train.model.space_time import SpaceTime, TimeAttention


def build(config: ModelConfig, **changes) -> VideoTextModel:
    torch.manual_seed(0)
    return VideoTextModel.create(replace(config, **changes))


@pytest.fixture(scope="module")
def deep_model(tmp_path_factory) -> ModelConfig:
    """Three blocks."""
    config = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 16, "patch_size": 8, "layers": 3, "width": 16, "head_width": 8},
        "text_cfg": {"context_length": 8, "vocab_size": 49408, "layers": 1, "width": 8, "heads": 1},
    }
    path = tmp_path_factory.mktemp("models") / "deep.json"
    path.write_text(json.dumps(config))
    return ModelConfig(name=str(path))


@pytest.fixture(scope="module")
def clips() -> torch.Tensor:
    return torch.randn(2, 2, 4, 3, 16, 16, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("blocks", [0, 1])
def test_it_begins_as_the_model_that_reads_frame_by_frame(deep_model, clips, blocks):
    frames = build(deep_model)
    with_time = build(deep_model, video="space-time", time_blocks=blocks)
    assert all(
        torch.equal(value, with_time.clip.state_dict()[name]) for name, value in frames.clip.state_dict().items()
    )
    assert torch.equal(with_time.encode_video(clips).frames_BVTD, frames.encode_video(clips).frames_BVTD)


def space_time(model: VideoTextModel) -> SpaceTime:
    assert model.space_time is not None
    return model.space_time


def shake(model: VideoTextModel) -> VideoTextModel:
    for name, weight in space_time(model).named_parameters():
        if name.endswith("out_proj.weight"):
            torch.nn.init.normal_(weight)
    return model


def test_after_a_step_the_order_of_frames_matters_and_views_do_not_mix(deep_model, clips):
    model = build(deep_model, video="space-time", video_learns="none", time_blocks=2)
    model.learn(ModelConfig(video_learns="none", text_learns="none"))
    learning = [weight for weight in model.parameters() if weight.requires_grad and weight is not model.log_scale]
    optimizer = torch.optim.SGD(learning, lr=10.0)
    before = model.encode_video(clips).frames_BVTD.mean(2)
    torch.testing.assert_close(model.encode_video(clips.flip(2)).frames_BVTD.mean(2), before)
    (before[:, :, 0] - before[:, :, 1]).square().sum().backward()
    optimizer.step()
    after = model.encode_video(clips).frames_BVTD.mean(2)
    assert (after - before).abs().max() > 1e-4
    assert (model.encode_video(clips.flip(2)).frames_BVTD.mean(2) - after).abs().max() > 1e-4
    torch.testing.assert_close(model.encode_video(clips[1:, 1:]).frames_BVTD.mean(2), after[1:, 1:])


def test_attention_over_time_is_its_equation():
    torch.manual_seed(0)
    time = TimeAttention(8, 2, 5).double()
    for weight in time.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    tokens = torch.randn(2, 4, 3, 8, dtype=torch.float64)  # 2 views, 4 frames, a class token and 2 patches
    want = tokens.clone()
    attention = time.attention
    query, key, value = attention.in_proj_weight.chunk(3)
    bias_q, bias_k, bias_v = attention.in_proj_bias.chunk(3)
    for n in range(2):
        for p in (1, 2):
            seen = [time.norm(tokens[n, t, p]) + time.place_TK[t] for t in range(4)]
            for t in range(4):
                heads = []
                for head in (slice(0, 4), slice(4, 8)):
                    q = (query @ seen[t] + bias_q)[head]
                    weights = torch.stack([q @ (key @ s + bias_k)[head] / 4**0.5 for s in seen]).softmax(0)
                    heads.append(sum(w * (value @ s + bias_v)[head] for w, s in zip(weights, seen, strict=True)))
                want[n, t, p] += attention.out_proj(torch.cat(heads))
    torch.testing.assert_close(time(tokens), want)
    assert torch.equal(time(tokens)[:, :, 0], tokens[:, :, 0])


def test_only_the_last_blocks_have_it(deep_model, clips):
    model = shake(build(deep_model, video="space-time", time_blocks=1))
    assert (space_time(model).first, len(space_time(model).layers)) == (2, 1)
    whole = shake(build(deep_model, video="space-time"))
    assert len(space_time(whole).layers) == 3
    assert not torch.allclose(whole.encode_video(clips).frames_BVTD, model.encode_video(clips).frames_BVTD)


def test_its_weights_are_not_open_clips(deep_model):
    model = build(deep_model, video="space-time")
    assert any(name.startswith("space_time.layers.0.") for name in model.state_dict())
    assert not any("space_time" in name for name in model.clip.state_dict())


def test_checkpointed_blocks_give_the_same_gradients(deep_model, clips):
    grads = []
    for checkpointing in (False, True):
        model = shake(build(deep_model, video="space-time"))
        model.clip.visual.set_grad_checkpointing(checkpointing)
        model.encode_video(clips).frames_BVTD[..., 0].sum().backward()
        grads.append([weight.grad for weight in space_time(model).parameters()])
    for plain, again in zip(*grads, strict=True):
        assert plain is not None
        assert plain.abs().max() > 0
        torch.testing.assert_close(again, plain)


def test_what_cannot_be_is_named(deep_model, clips, tmp_path):
    with pytest.raises(UsageError, match=r"model.time_blocks must be at most the 3 blocks of the image encoder, got 4"):
        build(deep_model, video="space-time", time_blocks=4)
    with pytest.raises(UsageError, match=r"data.frames must be at most model.max_frames, 3, got 4"):
        build(deep_model, video="space-time", max_frames=3).encode_video(clips)
    config = json.loads(Path(deep_model.name).read_text())
    config["vision_cfg"] |= {"layers": [1, 1, 1, 1], "width": 8, "image_size": 32}
    path = tmp_path / "resnet.json"
    path.write_text(json.dumps(config))
    with pytest.raises(UsageError, match=r"model.video 'space-time' needs an image encoder that is open_clip's vision"):
        build(ModelConfig(name=str(path)), video="space-time")
