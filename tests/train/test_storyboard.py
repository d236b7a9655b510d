"""Storyboard: its equations one video, class and word at a time, and what follows from them."""

import json
import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from reelmill.engine.bank.records.build import build_bank
from reelmill.engine.bank.records.config import BankBuildConfig
from reelmill.shards.bank import Action, Bank
from reelmill.shards.bank.texts import SubTexts, write_rows
from reelmill.shards.errors import UsageError
from reelmill.train import checkpoint
from reelmill.train.config import DataConfig, EvalConfig, StoryboardConfig, TrainConfig
from reelmill.train.evaluation import evaluate
from reelmill.train.methods import IGNORED, Targets
from reelmill.train.methods.storyboard import Storyboard
from reelmill.train.model import VideoTextModel
from reelmill.train.run import train
from reelmill.train.run_log import read_metrics
from safetensors.torch import save_file

NAMES = ("verb0 thing", "verb1 thing", "verb2 thing")
STEPS = {0: ("raise an arm", "stand"), 1: ("stand",), 2: ("walk to the door", "stand", "open it slowly")}


def make_bank():
    texts: dict[int, Sequence[str]] = {number: [] for number in range(4)}
    names = (*NAMES, "no steps")
    return Bank([Action(number, name, name, (), (), 0) for number, name in enumerate(names)], texts, "memory")


@pytest.fixture
def make(mini_model):
    """A method in fp64 whose own weights are no longer those that begin as nothing."""

    def make(*, awake=True, precision="fp32", **options):
        torch.manual_seed(0)
        config = StoryboardConfig(**({"temporal_layers": 1, "heads": 2} | options))
        steps = {number: SubTexts(texts, None) for number, texts in STEPS.items()}
        method = Storyboard(VideoTextModel.create(mini_model, precision=precision), config, make_bank(), steps)
        torch.manual_seed(1)
        for part in (method.temporal, method.steps, method.feedforward) if awake else ():
            for weight in part.parameters() if part is not None else ():
                torch.nn.init.normal_(weight, std=0.3)
        return method.double() if precision == "fp32" else method

    return make


@pytest.fixture
def clips():
    return torch.randn(4, 2, 3, 3, 16, 16, generator=torch.Generator().manual_seed(1)).double()


def outputs(method, clips, names=NAMES):
    texts = method.describe(names)
    return method(method.model.encode_video(clips), texts, method.model.encode_texts(texts.strings, words=True))


def cos(a, b):
    return (a @ b) / (a.norm() * b.norm())


def mlp(layers, x):
    first, _, last = layers
    return last.weight @ torch.nn.functional.gelu(first.weight @ x + first.bias) + last.bias


def words_of(method, strings, count):
    """The words of each text, and the text as a whole."""
    states = method.model.encode_texts(strings, words=True)
    words = []
    for row, there in zip(states.words_MWD, states.is_word_MW, strict=True):
        words.append([word for word, real in zip(row, there.tolist(), strict=True) if real or count == "all"])
    return words, states.texts_MD


def slow_mixed(method, own, steps):
    """Eq. 5-7, head by head."""
    layer, size = method.steps, len(own[0]) // method.steps.heads
    mixed = []
    for word in own:
        parts = []
        for head in range(layer.heads):
            rows = slice(head * size, (head + 1) * size)
            q = layer.query.weight[rows] @ word
            logits = torch.stack([q @ (layer.key.weight[rows] @ other) / math.sqrt(size) for other in steps])
            values = torch.stack([layer.value.weight[rows] @ other for other in steps])
            parts.append(logits.softmax(0) @ values)
        mixed.append(torch.cat(parts) + word)
    return mixed


def slow_layer(layer, x):
    def norm(part, x):
        return torch.nn.functional.layer_norm(x, (x.shape[-1],), part.weight, part.bias)

    attention, normed = layer.attention, norm(layer.norm_1, x)
    heads = []
    q, (k, v) = attention.query(normed), attention.key_value(normed).chunk(2, dim=-1)
    for head in range(attention.heads):
        part = slice(head * len(x[0]) // attention.heads, (head + 1) * len(x[0]) // attention.heads)
        heads.append((q[:, part] @ k[:, part].T / math.sqrt(k[:, part].shape[1])).softmax(1) @ v[:, part])
    x = x + attention.out(torch.cat(heads, 1))
    return x + torch.stack([mlp(layer.mlp, row) for row in norm(layer.norm_2, x)])


def slow_frames(method, view):
    """Frames of length 1 after the temporal transformer."""
    x = view
    if method.temporal is not None:
        x = x + method.temporal.places[: len(view)]
        for layer in method.temporal.layers:
            x = slow_layer(layer, x)
        x = view + x
    return [frame / frame.norm() for frame in x]


def slow_coarse(words, frames, config):
    """Eq. 8."""
    weights = []
    for frame in frames:
        weight = 0.0
        for word in words:
            cosines = [cos(word, other) / config.tau for other in frames]
            bottom = sum(cosines) if config.denominator == "printed" else sum(value.exp() for value in cosines)
            weight = weight + (cos(word, frame) / config.tau).exp() / bottom
        weights.append(weight / (len(words) if config.words == "mean" else 1))
    return weights


def slow_fine(steps, frames, config):
    """Eq. 10."""
    tops = []
    for frame in frames:
        tops.append(max(sum(cos(word, frame) for word in step) / len(step) for step in steps) / config.tau)
    return [top.exp() / sum(other.exp() for other in tops) for top in tops]


def slow_logits(method, clips, config):
    # all texts at once, as `describe` gives them: with count "all" it matters how long the longest is
    texts = method.describe(NAMES)
    words, wholes = words_of(method, texts.strings, config.count)
    place = {text: at for at, text in enumerate(texts.strings)}
    rows = []
    for views in method.model.encode_video(clips).frames_BVTD:
        frames = [frame for view in views for frame in slow_frames(method, view)]
        row = []
        for number in range(len(NAMES)):
            steps = [words[place[text]] for text in STEPS[number] if text in place]
            weights = {}
            if config.branches in ("both", "coarse"):
                own = slow_mixed(method, words[number][: texts.words], [word for step in steps for word in step])
                weights["coarse"] = slow_coarse(own, frames, config)
            if config.branches in ("both", "fine"):
                weights["fine"] = slow_fine(steps, frames, config)
            o = 0.0 if weights else sum(frames) / len(frames)
            for name, weights_L in weights.items():
                summed = sum(weight * frame for weight, frame in zip(weights_L, frames, strict=True))
                o = o + summed + (mlp(method.feedforward[name], summed) if config.feedforward else 0)
            row.append(cos(wholes[number], o) * method.model.log_scale.exp())
        rows.append(torch.stack(row))
    return torch.stack(rows)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"tau": 1.0, "words": "sum"},
        {"tau": 1.0, "denominator": "printed"},
        {"branches": "coarse", "count": "all", "tau": 0.1},
        {"branches": "fine", "feedforward": False, "temporal_layers": 2},
        {"branches": "fine", "count": "all", "tau": 1.0},
        {"branches": "global"},
        {"branches": "global", "temporal_layers": 0},
    ],
    ids=str,
)
def test_the_logits_are_those_of_the_equations(make, clips, options):
    method = make(**options)
    with torch.no_grad():
        want = slow_logits(method, clips[:2], method._config)
    torch.testing.assert_close(outputs(method, clips[:2]), want, rtol=0, atol=1e-10)


def slow_losses(logits, labels, config):
    """Eq. 13-14 with their double sums and the minus sign."""
    B = len(labels)
    t2v = v2t = 0.0
    for b in range(B):
        same = [other for other in range(B) if labels[other] == labels[b]]
        for other in same:
            right = logits[other, labels[b]].exp()
            t2v -= (right / sum(logits[k, labels[b]].exp() for k in range(B))).log() / len(same) / B
            v2t -= (right / sum(logits[other].exp())).log() / len(same) / B
    return {"t2v": config.t2v_weight * t2v, "v2t": config.v2t_weight * v2t}


def targets_of(labels, several=None):
    labels = torch.tensor(labels)
    return Targets(labels, (labels != IGNORED).sum().double(), 0, several)


def test_the_losses_are_the_double_sums_without_what_does_not_count(make):
    method = make(t2v_weight=0.7, v2t_weight=0.3)
    logits = torch.randn(6, 3, dtype=torch.float64, requires_grad=True)
    found = method.loss(logits, None, None, targets_of([2, 0, IGNORED, 2, 1, IGNORED]))
    rows = [0, 1, 3, 4]
    want = slow_losses(logits[rows], [2, 0, 2, 1], method._config)
    assert found.keys() == want.keys()
    for name in want:
        torch.testing.assert_close(found[name], want[name])
    grad, wanted = (torch.autograd.grad(sum(losses.values()), logits, retain_graph=True)[0] for losses in (found, want))
    torch.testing.assert_close(grad, wanted)
    assert not grad[[2, 5]].any()


def test_nothing_that_counts_is_no_loss(make):
    found = make().loss(
        torch.randn(2, 3).double(), None, None, targets_of([IGNORED, IGNORED])._replace(counted=torch.ones(()))
    )
    assert [float(loss) for loss in found.values()] == [0, 0]


def test_a_sample_of_several_labels_is_an_equal_share_of_each(make):
    method = make()
    logits = torch.randn(3, 3, dtype=torch.float64)
    labels = [{0, 2}, {1}, {0, 1, 2}]
    several = torch.tensor([[float(c in own) for c in range(3)] for own in labels])
    found = method.loss(logits, None, None, targets_of([0, 1, 0], several))
    down, along = logits.log_softmax(0), logits.log_softmax(1)
    for name, chances in (("t2v", down), ("v2t", along)):
        want = -sum(chances[b, c] / len(own) for b, own in enumerate(labels) for c in own) / 3
        torch.testing.assert_close(found[name], want)
    single = method.loss(logits, None, None, targets_of([2, 0, 1], torch.eye(3)[[2, 0, 1]]))
    assert single == method.loss(logits, None, None, targets_of([2, 0, 1]))


def test_label_smoothing_is_that_of_torch_and_of_v2t_alone(make):
    method, logits = make(), torch.randn(3, 3, dtype=torch.float64)
    plain = method.loss(logits, None, None, targets_of([0, 1, 1]))
    method.label_smoothing = 0.2
    smooth = method.loss(logits, None, None, targets_of([0, 1, 1]))
    want = torch.nn.functional.cross_entropy(logits, torch.tensor([0, 1, 1]), label_smoothing=0.2)
    torch.testing.assert_close(smooth["v2t"], want)
    assert torch.equal(smooth["t2v"], plain["t2v"])


def test_a_loss_that_weighs_nothing_is_left_out(make):
    method = make(t2v_weight=0.0)
    assert method.loss(torch.randn(2, 3).double(), None, None, targets_of([0, 1])).keys() == {"v2t"}
    assert not method.couples_videos
    assert make().couples_videos
    assert make().reads_words
    assert not make(branches="global").reads_words


def test_at_first_it_is_clip_with_weighted_frames(make, clips):
    method = make(awake=False, branches="global", temporal_layers=3)
    frames = method.model.encode_video(clips).frames_BLD
    prompts = [f"a photo of a {name}" for name in NAMES]
    want = torch.nn.functional.normalize(frames.mean(1), dim=1) @ method.model.encode_texts(prompts).texts_MD.T / 0.07
    torch.testing.assert_close(outputs(method, clips), want)
    both = make(awake=False)
    texts = both.describe(NAMES)
    states = both.model.encode_texts(texts.strings, words=True)
    weights = both.key_frames(both.model.encode_video(clips), texts, states)
    o_BCD = (weights["coarse"] + weights["fine"]) @ frames
    want = torch.nn.functional.cosine_similarity(o_BCD, states.texts_MD[:3], dim=-1) / 0.07
    torch.testing.assert_close(outputs(both, clips), want)


def test_weights_sum_to_one_and_follow_the_temperature(make, clips):
    spread = []
    for tau in (0.01, 1.0):
        method = make(tau=tau)
        texts = method.describe(NAMES)
        states = method.model.encode_texts(texts.strings, words=True)
        weights = method.key_frames(method.model.encode_video(clips), texts, states)
        assert weights.keys() == {"coarse", "fine"}
        for weights_BCL in weights.values():
            torch.testing.assert_close(weights_BCL.sum(2), torch.ones(4, 3).double())
        spread.append((weights["fine"].amax(2) / weights["fine"].amin(2)).max())
    assert spread[0] > 100
    assert spread[1] < 10


def test_a_class_scores_the_same_whatever_other_classes_there_are(make, clips):
    method = make()
    scores = outputs(method, clips)
    turned = outputs(method, clips, NAMES[::-1])
    torch.testing.assert_close(turned.flip(1), scores, rtol=0, atol=1e-10)
    torch.testing.assert_close(outputs(method, clips, NAMES[1:2]), scores[:, 1:2], rtol=0, atol=1e-10)


def test_scores_of_evaluation_are_those_of_training(make, clips):
    method = make()
    training = outputs(method, clips)
    assert torch.equal(outputs(method.eval(), clips), training)


def test_in_bf16_the_scores_are_fp32_and_near(make, clips):
    want, found = outputs(make(tau=1.0), clips), outputs(make(tau=1.0, precision="bf16"), clips.float())
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), want, rtol=0, atol=0.05 / 0.07)


def test_texts_that_classes_share_are_encoded_once(make):
    texts = make().describe(NAMES)
    assert texts.strings[:3] == tuple(f"a photo of a {name}" for name in NAMES)
    assert texts.strings[3:] == ("raise an arm", "stand", "walk to the door", "open it slowly")
    assert texts.steps_CN.tolist() == [[3, 4, 0], [4, 0, 0], [5, 4, 6]]
    assert texts.there_CN.tolist() == [[True, True, False], [True, False, False], [True, True, True]]
    assert make(branches="global").describe(NAMES).strings == texts.strings[:3]


def test_a_step_without_words_is_no_nan(make, clips):
    method = make()
    method._subtexts = {number: SubTexts((" ",), None) for number in range(3)}
    assert outputs(method, clips).isfinite().all()


def test_classes_that_the_bank_cannot_describe_are_named(make):
    with pytest.raises(UsageError, match=r"'verb9 thing' must be an action of the bank memory; the nearest is 'verb"):
        make().describe(["verb9 thing"])
    message = "class 'no steps' must have sub-texts in the bank, but has none: `reelmill bank subtexts` makes them"
    with pytest.raises(UsageError, match=message):
        make().describe(["verb0 thing", "no steps"])


def test_chunks_of_classes_change_nothing(make, clips):
    found = []
    for chunk in (2, 100):
        method = make(class_chunk=chunk)
        logits = outputs(method, clips)
        logits.logsumexp(0).sum().backward()
        found.append((logits, {name: weight.grad for name, weight in method.named_parameters()}))
    (logits, grads), (whole, whole_grads) = found
    torch.testing.assert_close(logits, whole, rtol=0, atol=1e-12)
    for name, grad in grads.items():
        torch.testing.assert_close(grad, whole_grads[name], rtol=0, atol=1e-10, msg=name)


def test_preselected_classes_score_as_all_and_the_others_come_behind_in_order(make, clips):
    whole, plain = outputs(make().eval(), clips), outputs(make(feedforward=False).eval(), clips)
    method = make(preselect=2)
    torch.testing.assert_close(outputs(method, clips), whole)  # in training all classes count
    found = outputs(method.eval(), clips)
    best = plain.topk(2).indices
    torch.testing.assert_close(found.gather(1, best), whole.gather(1, best), rtol=0, atol=1e-10)
    last = plain.argmin(1, keepdim=True)
    torch.testing.assert_close(found.gather(1, last), plain.gather(1, last) - 2 / 0.07)
    assert (found.argmin(1, keepdim=True) == last).all()
    torch.testing.assert_close(outputs(make(preselect=3).eval(), clips), whole)


def test_all_weights_learn(make, clips):
    method = make()
    outputs(method, clips).logsumexp(0).sum().backward()
    without = [name for name, weight in method.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert without == []


@pytest.mark.parametrize("branches", ["both", "global"])
def test_batches_that_accumulate_learn_as_one(make, step_gradients, tiny_config, branches):
    whole, cut = (step_gradients(make(branches=branches), tiny_config, accumulate) for accumulate in (1, 4))
    assert whole.keys() == cut.keys()
    for name, grad in whole.items():
        torch.testing.assert_close(cut[name], grad, rtol=1e-7, atol=1e-10, msg=name)


def test_its_weights_are_saved_and_restored(make, clips, tmp_path):
    method, other = make(), make(awake=False)
    names = {name.split(".")[0] for name in method.own_state()}
    assert names == {"temporal", "steps", "feedforward"}
    save_file(method.own_state(), tmp_path / checkpoint.OWN_WEIGHTS)
    assert not torch.equal(outputs(other, clips), outputs(method, clips))
    checkpoint.load_method(tmp_path, other)
    assert torch.equal(outputs(other, clips), outputs(method, clips))


def test_what_does_not_fit_the_model_is_named(make, clips):
    with pytest.raises(UsageError, match="heads must divide the 16 dimensions of the model's joint space, got 3"):
        make(heads=3)
    with pytest.raises(UsageError, match="heads must divide the 16 dimensions of the model's joint space, got 3"):
        make(heads=3, temporal_layers=0)
    with pytest.raises(UsageError, match=r"method\.max_frames must be at least the 3 frames of a view, got 2"):
        outputs(make(max_frames=2), clips)


def test_a_run_reads_the_steps_of_the_bank_and_is_evaluated(small_dataset, local_ray, mini_model, tmp_path):
    labels, bank = ("jump", "run", "sit down"), tmp_path / "bank"
    lines = [json.dumps({"action": name, "text": f"they {name} again and again", "source": "us"}) for name in labels]
    (tmp_path / "records.jsonl").write_text("\n".join(lines))
    build_bank(BankBuildConfig(records=tmp_path / "records.jsonl", out=bank))
    config = TrainConfig(
        dataset=str(small_dataset),
        out=tmp_path / "run",
        bank=str(bank),
        model=mini_model,
        method=StoryboardConfig(temporal_layers=1, heads=2),
        data=DataConfig(train_split="", eval_split="", frames=2, threads=1),
        global_batch=6,
        accumulate=2,
        steps=2,
        log_every=1,
    )
    with pytest.raises(UsageError, match=r"must be a bank with subtexts\.parquet, .*`reelmill bank subtexts` makes it"):
        train(config)
    common = {"tpp": 0.5, "source": "us", "prompt_hash": None}
    rows = [
        {"action_id": action.action_id, "n": n, "text": f"step {n} of {action.name}"} | common
        for action in Bank.open(bank).actions
        for n in range(2)
    ]
    write_rows(bank, "subtexts", rows)
    train(config)
    logged = [row for row in read_metrics(config.out) if "loss" in row]
    assert len(logged) == 2
    assert all(math.isfinite(row["loss"]) for row in logged)
    results = evaluate(EvalConfig(run=config.out, protocol="closed-set", clips=2))
    assert results["tasks"]["base"]["top1"]["samples"] == 15


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prompt": "a photo"}, r"method\.prompt must be a text with \{action\} in it once, got 'a photo'"),
        ({"tau": 0.0}, r"method\.tau must be > 0 and finite, got 0\.0"),
        ({"heads": 0}, r"method\.heads must be > 0, got 0"),
        ({"preselect": -1}, r"method\.preselect must be >= 0, got -1"),
        ({"t2v_weight": math.inf}, r"method\.t2v_weight must be >= 0 and finite, got inf"),
        ({"t2v_weight": 0.0, "v2t_weight": 0.0}, "v2t_weight must be above 0, one of them at least, got"),
    ],
)
def test_options_out_of_range_are_named(options, message):
    with pytest.raises(UsageError, match=message):
        StoryboardConfig(**options)


def test_branches_have_only_the_weights_that_they_read(make):
    counts = {
        kind: len(make(branches=kind, temporal_layers=0).own_state()) for kind in ("both", "coarse", "fine", "global")
    }
    assert counts == {"both": 3 + 8, "coarse": 3 + 4, "fine": 4, "global": 0}
    assert replace(StoryboardConfig(), branches="global").branches == "global"
