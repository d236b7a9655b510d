"""ALT: its equations one frame, region and entity at a time, and what follows from them."""

import json
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from reelmill.kernels import align_entities
from reelmill.shards.bank.texts import Entity, write_rows
from reelmill.shards.errors import UsageError
from reelmill.train import checkpoint
from reelmill.train.config import AltConfig, DataConfig, ModelConfig, RegionsConfig, TrainConfig
from reelmill.train.config.alt import TEMPLATES
from reelmill.train.methods import make_method
from reelmill.train.methods.alt import Alt
from reelmill.train.model import VideoStates, VideoTextModel, video_seeds
from safetensors.torch import save_file

NAMES = ("verb0 thing", "verb1 thing", "verb2 thing")
ENTITIES = [
    Entity(name, text, "thing") for name, text in (("ball", "round"), ("arm", ""), ("door", "of wood"), ("sea", ""))
]
PINNED = [5337300662416503680, -5356774642198223765]  # seeds of the videos "00ff" and "abcd" in a step of seed 7
FROZEN: dict[str, Any] = {"text_learns": "none", "video": "regions"}


@pytest.fixture(scope="module")
def model_config(tmp_path_factory):
    vision = {"image_size": 16, "patch_size": 8, "layers": 2, "width": 16, "head_width": 8}
    text = {"context_length": 24, "vocab_size": 49408, "layers": 1, "width": 8, "heads": 1}
    path = tmp_path_factory.mktemp("models") / "alt.json"
    path.write_text(json.dumps({"embed_dim": 16, "vision_cfg": vision, "text_cfg": text}))
    return ModelConfig(name=str(path), regions=RegionsConfig(merge=1), **FROZEN)


@pytest.fixture
def make(model_config):
    """A method in fp64, and in it nothing that is zero."""

    def make(*, awake=True, precision="fp32", **options):
        torch.manual_seed(0)
        small: dict[str, Any] = {"blocks": 2, "heads": 2, "templates": TEMPLATES[:3]}
        config = AltConfig(**(small | options))
        method = Alt(VideoTextModel.create(model_config, precision=precision), config, ENTITIES)
        torch.manual_seed(1)
        for weight in method.adapter.parameters() if awake else ():
            torch.nn.init.normal_(weight, std=0.3)
        method.model.learn(model_config)
        return method.double() if precision == "fp32" else method

    return make


@pytest.fixture
def clips():
    return torch.randn(3, 2, 3, 3, 16, 16, generator=torch.Generator().manual_seed(1)).double()


def run(method, clips, names=NAMES, seeds=None):
    """Scores, and the outputs that they are of."""
    texts = method.describe(names)
    states = method.model.encode_texts(texts.strings)
    outputs = method(method.model.encode_video(clips)._replace(seeds_B=seeds), texts, states)
    return method.scores(outputs, texts, states), outputs


def cos(a, b):
    return (a @ b) / (a.norm() * b.norm())


def norm(layer, x):
    return torch.nn.functional.layer_norm(x, (x.shape[-1],), layer.weight, layer.bias)


def mlp(layers, x, residual=False):
    first, _, last = layers
    out = torch.nn.functional.gelu(x @ first.weight.T + first.bias) @ last.weight.T + last.bias
    return x + out if residual else out


def attend(layer, queries, sources):
    (k, v), q = layer.key_value(sources).chunk(2, dim=-1), layer.query(queries)
    size, rows = len(q[0]) // layer.heads, []
    for query in range(len(q)):
        row = []
        for head in range(layer.heads):
            part = slice(head * size, (head + 1) * size)
            weights = torch.stack([q[query, part] @ key[part] / math.sqrt(size) for key in k]).softmax(0)
            row.append(sum(weight * value[part] for weight, value in zip(weights, v, strict=True)))
        rows.append(torch.cat(row))
    return layer.out(torch.stack(rows))


def convolve(layer, frames):
    """Eq. 8, the 1D convolution over time with zeros around it."""
    half, rows = layer.kernel_size[0] // 2, []
    for t in range(len(frames)):
        row = layer.bias
        for k in range(layer.kernel_size[0]):
            if 0 <= t + k - half < len(frames):
                row = row + layer.weight[:, :, k] @ frames[t + k - half]
        rows.append(row)
    return torch.stack(rows)


def slow_pool(pool, tokens):
    if pool.query is not None:
        weights = torch.stack([token @ pool.query for token in tokens]).softmax(0)
    else:
        weights = torch.full((len(tokens),), 1 / len(tokens)).double() if pool.mix is None else pool.mix
    return sum(weight * token for weight, token in zip(weights, tokens, strict=True))


def slow_adapter(adapter, aligned, tokens, residual):
    """Eq. 6-9 of a view: lists of frames."""
    frames = torch.stack([mlp(adapter.frames[1], slow_pool(adapter.frames[0], frame), residual) for frame in tokens])
    if adapter.asks is None:
        asks = frames
    else:
        asks = torch.stack([mlp(adapter.asks[1], slow_pool(adapter.asks[0], frame), residual) for frame in aligned])
    if adapter.places is not None:
        frames, asks = frames + adapter.places[: len(frames)], asks + adapter.places[: len(frames)]
    for block in adapter.blocks:
        if block.attends:
            asks = asks + attend(block.self_attention, norm(block.norm_self, asks), norm(block.norm_self, asks))
        if block.reads:
            seen = frames + convolve(block.convolution, frames) if block.convolves else frames
            asks = asks + attend(block.cross_attention, norm(block.norm_cross, asks), norm(block.norm_frames, seen))
        asks = asks + mlp(block.mlp, norm(block.norm_mlp, asks))
    return mlp(adapter.video, asks.mean(0), residual)


def slow_scores(method, clips, config):
    model = method.model
    scale, video = model.log_scale.exp(), model.encode_video(clips)
    classes = []
    for name in NAMES:
        texts = [model.encode_texts([template.replace("{action}", name)]).texts_MD[0] for template in config.templates]
        classes.append(sum(texts) / len(texts) / (sum(texts) / len(texts)).norm())
    corpus = [model.encode_texts([entity.text]).texts_MD[0] for entity in ENTITIES]
    corpus = classes if config.align == "names" else corpus
    rows = []
    for b in range(len(clips)):
        views = []
        for v in range(clips.shape[1]):
            level = video.regions_BVTND if config.level == "regions" else video.frames_BVTD[:, :, :, None]
            tokens = [list(frame) for frame in level[b, v]]
            aligned = [[max(corpus, key=lambda text: float(cos(token, text))) for token in frame] for frame in tokens]
            views.append(slow_adapter(method.adapter, aligned, tokens, config.residual_mlps))
        if config.similarity == "dot":
            rows.append(torch.stack([sum(z @ text for z in views) / len(views) for text in classes]))
        else:
            rows.append(torch.stack([scale * sum(cos(z, text) for z in views) / len(views) for text in classes]))
    return torch.stack(rows)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"level": "frames", "conv_kernel": 1, "similarity": "dot"},
        {"align": "names", "level": "frames", "self_attention": False},
        {"align": "none", "cross_attention": False, "convolution": False},
        {"align": "none", "level": "frames"},
        {"pool": "attention", "residual_mlps": True, "convolution": False, "conv_kernel": 5},
        {"pool": "token-mix", "positions": False, "templates": ("{action}",)},
    ],
    ids=str,
)
def test_the_scores_are_those_of_the_equations(make, clips, options):
    method = make(**options)
    with torch.no_grad():
        want = slow_scores(method, clips[:2], method._config)
    torch.testing.assert_close(run(method, clips[:2])[0], want, rtol=0, atol=1e-10)


def dense_align(tokens, corpus, scale):
    """Eq. 4-5 as they are printed, with the scale."""
    unit = [torch.nn.functional.normalize(side, dim=-1) for side in (tokens, corpus)]
    soft = (scale * unit[0] @ unit[1].T).softmax(-1)
    hard = torch.nn.functional.one_hot(soft.argmax(-1), len(corpus)).double()
    return (hard + soft - soft.detach()) @ corpus


@pytest.mark.parametrize("scale", [None, 1.0])
def test_regions_learn_by_the_straight_through_gradient(make, clips, scale):
    method = make(alignment_scale=scale)
    texts = method.describe(NAMES)
    states = method.model.encode_texts(texts.strings)
    video = method.model.encode_video(clips)
    tokens = video.regions_BVTND.detach().requires_grad_()
    up = torch.randn(tokens.shape, dtype=torch.float64)
    found, index = method.align(video._replace(regions_BVTND=tokens), texts, states)
    (grad,) = torch.autograd.grad((found * up).sum(), tokens)
    corpus = states.texts_MD[9:].detach()
    value = method.model.log_scale.detach().exp() if scale is None else scale
    want = dense_align(tokens, corpus, value)
    torch.testing.assert_close(found, want)
    torch.testing.assert_close(grad, torch.autograd.grad((want * up).sum(), tokens)[0])
    assert torch.equal(corpus[index], found)


def test_noise_is_drawn_in_training_alone_and_by_video(make, clips):
    method = make(alignment_scale=1.0)
    texts = method.describe(NAMES)
    states = method.model.encode_texts(texts.strings)
    video = method.model.encode_video(clips)
    plain = method.align(video, texts, states)[1]
    seeds = video_seeds(5, ["a", "b", "c"])
    noisy = method.align(video._replace(seeds_B=seeds), texts, states)[1]
    assert not torch.equal(noisy, plain)
    for rows in ([2], [1, 0]):  # another batch
        part = VideoStates(*(x[rows] for x in video._replace(seeds_B=seeds)))
        assert torch.equal(method.align(part, texts, states)[1], noisy[rows])
    other = method.align(video._replace(seeds_B=video_seeds(6, ["a", "b", "c"])), texts, states)[1]
    assert not torch.equal(other, noisy)
    quiet = make(alignment_scale=1.0, noise=False)
    assert torch.equal(quiet.align(video._replace(seeds_B=seeds), texts, states)[1], plain)


def test_seeds_of_videos_are_pinned_and_do_not_depend_on_their_place():
    assert video_seeds(7, ["00ff", "abcd"]).tolist() == PINNED
    assert video_seeds(7, ["abcd", "x", "00ff"])[[2, 0]].tolist() == PINNED
    assert video_seeds(8, ["00ff"]).tolist() != PINNED[:1]


def test_at_the_printed_scale_the_best_of_a_thousand_entities_is_rarely_drawn():
    """Why the default is the scale of the logits: a margin of 0.15 is lost in Gumbel noise."""
    entities = torch.eye(1000)
    region = 0.15 * entities[0] + math.sqrt(1 - 0.15**2) * torch.nn.functional.normalize(torch.ones(1000), dim=0)
    regions = region.expand(2000, -1)
    drawn = [
        float((align_entities(regions, entities, scale=scale, seed=1)[1] == 0).float().mean()) for scale in (1.0, 100.0)
    ]
    assert drawn[0] < 0.01
    assert drawn[1] > 0.95


def test_all_but_the_texts_learns_and_the_ladder_has_only_what_it_reads(make, clips):
    ladder: dict[str, dict[str, Any]] = {
        "a": {"align": "none", "level": "frames", "cross_attention": False, "convolution": False},
        "b": {"align": "names", "level": "frames"},
        "c": {"level": "frames"},
        "d": {},
    }
    counts = {}
    for step, options in ladder.items():
        method = make(**options)
        run(method, clips)[0].logsumexp(1).sum().backward()
        learning = {name: weight for name, weight in method.named_parameters() if weight.requires_grad}
        counts[step] = len(method.own_state())
        without = {name for name, weight in learning.items() if weight.grad is None or not weight.grad.any()}
        last = {name for name in learning if ".resblocks.1." in name}  # regions come from the block before
        assert without == (last if step == "d" else set())
        text = [name for name, _ in method.named_parameters() if "text_" in name or "token_embedding" in name]
        assert text
        assert not [name for name in text if name in learning]
    assert counts["a"] < counts["b"] == counts["c"] == counts["d"]


def test_pools_begin_as_the_mean(make, clips):
    states = make(awake=False).own_state()
    scores = []
    for pool in ("mean", "attention", "token-mix"):
        method = make(awake=False, pool=pool)
        method.load_state_dict(states, strict=False)
        scores.append(run(method, clips)[0])
    torch.testing.assert_close(scores[1], scores[0])
    torch.testing.assert_close(scores[2], scores[0])


def test_with_residual_mlps_a_video_begins_at_the_texts_of_its_entities(make, clips):
    method = make(awake=False, residual_mlps=True)
    for block in method.adapter.blocks:
        for layer in (block.self_attention.out, block.cross_attention.out, block.mlp[2]):
            torch.nn.init.zeros_(layer.weight)
            torch.nn.init.zeros_(layer.bias)
    texts = method.describe(NAMES)
    states = method.model.encode_texts(texts.strings)
    aligned, _ = method.align(method.model.encode_video(clips), texts, states)
    want = torch.nn.functional.normalize(aligned.mean((2, 3)), dim=-1).mean(1)
    torch.testing.assert_close(run(method, clips)[1], want)


def test_a_class_scores_the_same_whatever_other_classes_there_are(make, clips):
    method = make()
    scores = run(method, clips)[0]
    torch.testing.assert_close(run(method, clips, NAMES[::-1])[0].flip(1), scores, rtol=0, atol=1e-10)
    torch.testing.assert_close(run(method, clips, NAMES[1:2])[0], scores[:, 1:2], rtol=0, atol=1e-10)


def test_scores_of_evaluation_are_those_of_training_without_noise(make, clips):
    method = make()
    training = run(method, clips)[0]
    assert torch.equal(run(method.eval(), clips)[0], training)


def test_the_order_of_frames_matters_by_places_and_by_convolution_alone(make, clips):
    for options, ordered in (
        ({}, True),
        ({"positions": False}, True),
        ({"positions": False, "convolution": False}, False),
    ):
        method = make(**options)
        apart = (run(method, clips)[0] - run(method, clips.flip(2))[0]).abs().max()
        assert (apart > 1e-3) == ordered


@pytest.mark.parametrize("pool", ["mean", "attention", "token-mix"])
def test_in_bf16_the_scores_are_fp32_and_learn(make, clips, pool):
    method = make(precision="bf16", pool=pool)
    scores = run(method, clips.float(), seeds=video_seeds(0, ["a", "b", "c"]))[0]
    assert scores.dtype == torch.float32
    scores.logsumexp(1).sum().backward()
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in method.adapter.parameters())


def test_texts_are_templates_and_entities(make):
    texts = make(templates=("see {action}", "{action}")).describe(["open a door", "run"])
    assert texts.strings[:4] == ("see open a door", "open a door", "see run", "run")
    assert texts.strings[4:] == ("ball: round", "arm", "door: of wood", "sea")
    assert make(align="names").describe(["run"]).strings == tuple(
        text.replace("{action}", "run") for text in TEMPLATES[:3]
    )
    assert len(set(TEMPLATES)) == 16


def test_batches_that_accumulate_learn_as_one(make, step_gradients, tiny_config, model_config):
    config = replace(tiny_config, model=model_config)
    whole, cut = (step_gradients(make(), config, accumulate) for accumulate in (1, 4))
    assert whole.keys() == cut.keys()
    assert "adapter.video.0.weight" in whole
    for name, grad in whole.items():
        torch.testing.assert_close(cut[name], grad, rtol=1e-7, atol=1e-10, msg=name)


def test_its_weights_are_saved_and_restored(make, clips, tmp_path):
    method, other = make(), make(awake=False)
    assert {name.split(".")[0] for name in method.own_state()} == {"adapter"}
    save_file(method.own_state(), tmp_path / checkpoint.OWN_WEIGHTS)
    assert not torch.equal(run(other, clips)[0], run(method, clips)[0])
    checkpoint.load_method(tmp_path, other)
    assert torch.equal(run(other, clips)[0], run(method, clips)[0])


def test_what_does_not_fit_the_model_or_the_bank_is_named(make, clips, model_config):
    with pytest.raises(UsageError, match="heads must divide the 16 dimensions of the model's joint space, got 3"):
        make(heads=3)
    with pytest.raises(UsageError, match=r"method\.max_frames must be at least the 3 frames of a view, got 2"):
        run(make(max_frames=2), clips)
    with pytest.raises(UsageError, match=r"must have entities for method\.align 'entities', but its table is empty"):
        Alt(VideoTextModel.create(model_config), AltConfig(heads=2), [])


@pytest.mark.parametrize(
    ("model", "features", "message"),
    [
        ({"video": "regions"}, None, r"model\.text_learns must be 'none' with method alt, .*, got 'all'"),
        ({"text_learns": "none"}, None, r"model\.video must be 'regions' with method alt, or .*, got 'frames'"),
        (FROZEN, "clip", r"data\.features must be left out where method\.level is 'regions', .*, got 'clip'"),
    ],
)
def test_encoders_that_do_not_fit_are_refused(tmp_path, model_config, model, features, message):
    data = DataConfig(features=features)
    config = TrainConfig(dataset="data", out=tmp_path, model=ModelConfig(**model), method=AltConfig(), data=data)
    with pytest.raises(UsageError, match=message):
        make_method(config, VideoTextModel.create(model_config), frame_width=16)


def test_it_is_made_of_the_entities_of_the_bank(tmp_path, model_config):
    method: dict[str, Any] = {"heads": 2, "blocks": 1}
    config = TrainConfig(dataset=str(tmp_path), out=tmp_path, model=model_config, method=AltConfig(**method))
    with pytest.raises(
        UsageError, match=r"must be a bank with entities\.parquet, .* `reelmill bank entities` makes it"
    ):
        make_method(config, VideoTextModel.create(model_config), frame_width=16)
    make_method(
        replace(config, method=AltConfig(align="none", **method)), VideoTextModel.create(model_config), frame_width=16
    )
    rows = [
        {"name": name, "description": "", "kind": "thing", "source": "us", "prompt_hash": None} for name in ("b", "a")
    ]
    write_rows(tmp_path, "entities", rows)
    made = make_method(config, VideoTextModel.create(model_config), frame_width=16)
    assert isinstance(made, Alt)
    assert [entity.name for entity in made.entities] == ["a", "b"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"blocks": 0}, r"method\.blocks must be > 0, got 0"),
        ({"alignment_scale": 0.0}, r"method\.alignment_scale must be > 0 and finite, got 0\.0"),
        ({"conv_kernel": 4}, r"method\.conv_kernel must be odd and > 0, got 4"),
        ({"cross_attention": False}, r"method\.convolution must be false where method\.cross_attention is false"),
        (
            {"cross_attention": False, "convolution": False, "self_attention": False},
            r"method\.self_attention must be true where method\.cross_attention is false, got False",
        ),
        ({"templates": ()}, r"method\.templates must be texts with \{action\} in each once, got \[\]"),
        ({"templates": ("{action}", "x")}, r"method\.templates must be texts with .*, got \['x'\]"),
    ],
)
def test_options_out_of_range_are_named(options, message):
    with pytest.raises(UsageError, match=message):
        AltConfig(**options)
