"""The encoders: unit length, and a cut of the text that changes nothing."""

import json

import pytest
import torch
from reelmill.shards.errors import UsageError
from reelmill.train.config import ModelConfig
from reelmill.train.model import OWN_MODELS, VideoTextModel, choose_device
from torch.nn import functional

TEXTS = ["a video of push cup. the hand slides it to the right", "lift", "a video of open door"]


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return VideoTextModel.create(ModelConfig())


def own_config(folder, **changes):
    """A file of a config of the caller's own: the tiny one with other text settings or keys."""
    config = json.loads((OWN_MODELS / "reelmill-tiny.json").read_text())
    config["text_cfg"] |= changes.pop("text_cfg", {})
    path = folder / f"own-{len(changes)}.json"
    path.write_text(json.dumps(config | changes))
    return str(path)


def test_frames_are_encoded_one_by_one_to_unit_length(model):
    frames = torch.randn(2, 3, 4, 3, model.image_size, model.image_size)
    embeddings = model.encode_video(frames).frames_BVTD
    assert embeddings.shape[:3] == (2, 3, 4)
    torch.testing.assert_close(embeddings.norm(dim=-1), torch.ones(2, 3, 4))
    torch.testing.assert_close(model.encode_video(frames[1:, 2:, 3:]).frames_BVTD[0, 0, 0], embeddings[1, 2, 3])


def test_the_context_is_the_longest_text_rounded_up_to_eight(model):
    assert model.text.tokenize(TEXTS).shape == (3, 16)
    assert model.text.tokenize(["lift"]).shape == (1, 8)
    assert model.text.tokenize(["one two three four five six"]).shape == (1, 8)  # with start and end: 8 tokens
    assert model.text.tokenize(["one two three four five six seven"]).shape == (1, 16)
    assert model.text.tokenize(["word " * 100]).shape == (1, 24)  # the model's context, its end cut off


@pytest.mark.parametrize("changes", [{}, {"custom_text": True}])
def test_the_cut_text_is_encoded_as_the_whole_context_is(tmp_path, changes):
    torch.manual_seed(0)
    model = VideoTextModel.create(ModelConfig(name=own_config(tmp_path, **changes))).double()
    whole = model.text.whole_context(TEXTS)
    cut = model.text.tokenize(TEXTS)
    assert (cut.shape[1], whole.shape[1]) == (16, 24)
    want = functional.normalize(model.clip.encode_text(whole), dim=-1)
    torch.testing.assert_close(model.text.encode(cut).texts_MD, want, rtol=0, atol=1e-14)


@pytest.mark.parametrize("text_cfg", [{"no_causal_mask": True}, {"pool_type": "last"}])
def test_a_tower_that_sees_the_padding_is_not_cut(tmp_path, text_cfg):
    name = own_config(tmp_path, custom_text=True, text_cfg=text_cfg)
    model = VideoTextModel.create(ModelConfig(name=name))
    tokens = model.text.tokenize(["lift"])
    assert tokens.shape == (1, 24)
    want = functional.normalize(model.clip.encode_text(tokens), dim=-1)
    torch.testing.assert_close(model.text.encode(tokens).texts_MD, want)


def test_bf16_encoders_give_fp32_embeddings_near_those_of_fp32():
    embeddings = []
    for precision in ("fp32", "bf16"):
        torch.manual_seed(0)
        model = VideoTextModel.create(ModelConfig(), precision=precision)
        embeddings.append(model.encode_texts(TEXTS).texts_MD)
    assert embeddings[1].dtype == torch.float32
    assert not torch.equal(*embeddings)
    torch.testing.assert_close(*embeddings, rtol=0, atol=0.02)


def test_weights_come_from_a_local_file(tmp_path, model):
    path = tmp_path / "weights.pt"
    torch.save(model.clip.state_dict(), path)
    again = VideoTextModel.create(ModelConfig(pretrained=str(path)))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            ModelConfig(name="ViT-Z-99"),
            "model.name must be one of open_clip's models or a .json config of your own",
        ),
        (ModelConfig(name="none.json"), "model.name must be a file where it ends in .json, but there is no none.json"),
        (
            ModelConfig(pretrained="none.pt"),
            r"model.pretrained must be a file \(reelmill-tiny has no published",
        ),
        (ModelConfig(name="ViT-B-32", pretrained="opnai"), "model.pretrained must be a file or one of openai, "),
    ],
)
def test_what_open_clip_does_not_know_is_named(config, message):
    with pytest.raises(UsageError, match=message):
        VideoTextModel.create(config)


def test_weights_of_another_model_are_refused(tmp_path, model):
    path = tmp_path / "weights.pt"
    torch.save(model.clip.state_dict(), path)
    name = own_config(tmp_path, embed_dim=32)
    with pytest.raises(UsageError, match=r"model\.pretrained '.*weights\.pt' must fit the model 'own-1'"):
        VideoTextModel.create(ModelConfig(name=name, pretrained=str(path)))


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_cuda_without_a_gpu_is_refused():
    assert choose_device("auto") == torch.device("cpu")
    with pytest.raises(UsageError, match="device must be cpu or auto here, got 'cuda'"):
        choose_device("cuda")
