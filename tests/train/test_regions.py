"""Regions out of merged tokens: without merging the tower as it is, with it the equations, one token at a time."""

import json
import math
from dataclasses import replace

import pytest
import torch
from reelmill.shards.errors import UsageError
from reelmill.train.config import ModelConfig, RegionsConfig
from reelmill.train.model import VideoTextModel

BLOCKS, PATCHES, MERGE = 4, 16, 3


def make_config(folder, **vision):
    vision_cfg = {"image_size": 16, "patch_size": 4, "layers": BLOCKS, "width": 16, "head_width": 8} | vision
    text_cfg = {"context_length": 24, "vocab_size": 49408, "layers": 1, "width": 8, "heads": 1}
    path = folder / f"regions-{len(list(folder.iterdir()))}.json"
    path.write_text(json.dumps({"embed_dim": 12, "vision_cfg": vision_cfg, "text_cfg": text_cfg}))
    return ModelConfig(name=str(path), video="regions", regions=RegionsConfig(merge=MERGE))


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return make_config(tmp_path_factory.mktemp("models"))


def make(config, **options):
    torch.manual_seed(0)
    config = replace(config, **{name: value for name, value in options.items() if name == "video_learns"})
    rules = {name: value for name, value in options.items() if name != "video_learns"}
    model = VideoTextModel.create(replace(config, regions=replace(config.regions, **rules)))
    for weight in model.clip.visual.parameters():
        torch.nn.init.normal_(weight, std=0.3)  # biases and norms are otherwise 0 and 1, and show no mistake
    return model.double()


@pytest.fixture
def clips():
    return torch.randn(2, 1, 3, 3, 16, 16, generator=torch.Generator().manual_seed(1)).double()


def norm(x, layer):
    return torch.nn.functional.layer_norm(x, layer.normalized_shape, layer.weight, layer.bias, layer.eps)


def split_heads(attention, x):
    """Queries, keys and values, (H, N, K) each."""
    parts = (x @ attention.in_proj_weight.T + attention.in_proj_bias).chunk(3, dim=-1)
    return [part.reshape(len(x), attention.num_heads, -1).transpose(0, 1) for part in parts]


def slow_merge(x, sizes, keys, r):
    """Each even token to its likest odd one, the r likest pairs; the tokens, their sizes, and who went where."""
    unit = (keys / keys.norm(dim=1, keepdim=True)).detach()
    pairs = []
    for even in range(2, len(x), 2):  # the class token at 0 stays
        likeness, odd = max((float(unit[even] @ unit[odd]), -odd) for odd in range(1, len(x), 2))
        pairs.append((-likeness, even, -odd))
    merging = {even: odd for _, even, odd in sorted(pairs)[:r]}
    groups = [[token] for token in range(0, len(x), 2) if token not in merging]
    groups += [[token, *(even for even, odd in merging.items() if odd == token)] for token in range(1, len(x), 2)]
    merged = [sum(sizes[t] * x[t] for t in group) / sum(sizes[t] for t in group) for group in groups]
    return torch.stack(merged), torch.stack([sum(sizes[t] for t in group) for group in groups]), groups


def slow_block(block, x, sizes, r, proportional):
    q, k, v = split_heads(block.attn, norm(x, block.ln_1))
    heads = []
    for head in range(block.attn.num_heads):
        logits = q[head] @ k[head].T / math.sqrt(q.shape[-1])
        if proportional:
            logits = logits + sizes.log()
        heads.append(logits.softmax(1) @ v[head])
    x = x + torch.cat(heads, 1) @ block.attn.out_proj.weight.T + block.attn.out_proj.bias
    groups = [[token] for token in range(len(x))]
    if r:
        x, sizes, groups = slow_merge(x, sizes, k.mean(0), r)
    return x + block.mlp(norm(x, block.ln_2)), sizes, groups


def slow_frame(visual, picture, r, proportional, space):
    """The frame, its tokens in the space of texts, and which patches each of them is."""
    x = visual._embeds(picture[None])[0]
    sizes, sources = torch.ones(len(x), dtype=x.dtype), [{token} for token in range(len(x))]
    for block in visual.transformer.resblocks[:-1]:
        x, sizes, groups = slow_block(block, x, sizes, r, proportional)
        sources = [set().union(*(sources[token] for token in group)) for group in groups]
    last = visual.transformer.resblocks[-1]
    out, _, _ = slow_block(last, x, sizes, 0, proportional)
    values = split_heads(last.attn, norm(x, last.ln_1))[2].transpose(0, 1).flatten(1)
    alone = x + values @ last.attn.out_proj.weight.T + last.attn.out_proj.bias
    alone = alone + last.mlp(norm(alone, last.ln_2))
    tokens = {"second-last": x, "last": out, "values": alone}[space]
    frame, regions = (norm(found, visual.ln_post) @ visual.proj for found in (out[0], tokens))
    return frame / frame.norm(), regions / regions.norm(dim=1, keepdim=True), sources


@pytest.mark.parametrize(
    ("space", "proportional", "video_learns"),
    [
        ("second-last", "auto", "all"),
        ("second-last", "auto", "none"),
        ("last", "always", "all"),
        ("values", "never", "none"),
    ],
)
def test_regions_are_those_of_the_equations(config, clips, space, proportional, video_learns):
    model = make(config, space=space, proportional=proportional, video_learns=video_learns)
    counted = proportional == "always" or (proportional == "auto" and video_learns == "none")
    found = model.encode_video(clips)
    tokens = 1 + PATCHES - (BLOCKS - 1) * MERGE
    assert found.regions_BVTND.shape == (2, 1, 3, tokens, 12)
    assert model.regions.count == tokens
    for b, t in [(b, t) for b in range(2) for t in range(3)]:
        frame, regions, sources = slow_frame(model.clip.visual, clips[b, 0, t], MERGE, counted, space)
        torch.testing.assert_close(found.frames_BVTD[b, 0, t], frame, rtol=0, atol=1e-12)
        torch.testing.assert_close(found.regions_BVTND[b, 0, t], regions, rtol=0, atol=1e-12)
        of_patch = found.region_of_BVTP[b, 0, t].tolist()
        own = [{patch + 1 for patch in range(PATCHES) if of_patch[patch] == token} for token in range(1, tokens)]
        assert sources == [{0}, *own]


def test_proportional_attention_matters(config, clips):
    apart, counted = (make(config, proportional=rule).encode_video(clips) for rule in ("never", "always"))
    assert (apart.frames_BVTD - counted.frames_BVTD).abs().max() > 1e-3


@pytest.mark.parametrize("proportional", ["always", "never"])
def test_without_merging_a_frame_is_what_the_tower_says_to_the_bit(config, clips, proportional):
    model = make(config, merge=0, space="last", proportional=proportional)
    frames = model.encode_video(clips)
    want = torch.nn.functional.normalize(model.clip.encode_image(clips.flatten(0, 2)), dim=-1)
    assert torch.equal(frames.frames_BVTD.flatten(0, 2), want)
    assert torch.equal(frames.region_of_BVTP, torch.arange(1, PATCHES + 1).expand(2, 1, 3, PATCHES))
    torch.testing.assert_close(frames.regions_BVTND[..., 0, :], frames.frames_BVTD, rtol=0, atol=1e-15)


def test_no_more_than_half_of_the_patches_merge_in_a_block(config, clips):
    model = make(config, merge=100)
    assert model.regions.count == 1 + 2  # 16 patches, 8, 4, 2
    assert model.encode_video(clips).regions_BVTND.shape[3] == 3


@pytest.mark.parametrize(("patch", "layers", "regions"), [(16, 12, 108), (14, 24, 72)])
def test_the_papers_towers_have_as_many_regions_as_they_should(tmp_path, patch, layers, regions):
    config = make_config(tmp_path, image_size=224, patch_size=patch, layers=layers)
    reader = VideoTextModel.create(replace(config, regions=RegionsConfig())).regions
    assert reader is not None
    assert reader.count == 1 + regions


def test_the_whole_tower_learns_but_for_what_the_choice_of_tokens_reads(config, clips):
    model = make(config)
    found = model.encode_video(clips)
    weights = torch.randn(found.regions_BVTND.shape, dtype=torch.float64)
    ((found.regions_BVTND * weights).sum() + found.frames_BVTD.sum()).backward()
    visual = model.clip.visual
    assert all(weight.grad is not None and weight.grad.any() for weight in visual.parameters())


def test_recomputed_blocks_give_the_same_gradients(config, clips):
    gradients = []
    for again in (False, True):
        model = make(config)
        model.clip.set_grad_checkpointing(again)
        model.encode_video(clips).regions_BVTND[..., 0].sum().backward()
        gradients.append(model.clip.visual.conv1.weight.grad)
    torch.testing.assert_close(*gradients, rtol=0, atol=0)


def test_bf16_regions_are_near_those_of_fp32(config, clips):
    found = []
    for precision in ("fp32", "bf16"):
        torch.manual_seed(0)
        model = VideoTextModel.create(replace(config, regions=RegionsConfig(merge=0)), precision=precision)
        found.append(model.encode_video(clips.float()).regions_BVTND)
    assert [regions.dtype for regions in found if regions is not None] == [torch.float32] * 2
    torch.testing.assert_close(*found, rtol=0, atol=0.05)


@pytest.mark.parametrize(
    ("vision", "message"),
    [
        ({"layers": 1}, "'regions' needs an image encoder of 2 blocks at least, got 1"),
        ({"layers": [1, 1, 1, 1], "width": 8, "image_size": 32}, "is open_clip's vision transformer with plain"),
        ({"pool_type": "avg"}, "plain attention, a class token and no patch dropout"),
        ({"patch_dropout": 0.5}, "plain attention, a class token and no patch dropout"),
        ({"qk_norm": True}, "plain attention, a class token and no patch dropout"),
    ],
)
def test_towers_without_such_tokens_are_refused(tmp_path, vision, message):
    with pytest.raises(UsageError, match=message):
        VideoTextModel.create(make_config(tmp_path, **vision))


def test_a_negative_merge_is_refused():
    with pytest.raises(UsageError, match=r"model\.regions\.merge must be >= 0, got -1"):
        RegionsConfig(merge=-1)
