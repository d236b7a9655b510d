"""CoCo against its equations, written out once more with loops in fp64."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from reelmill.shards.bank import Action, Bank
from reelmill.shards.bank.texts import Definition
from reelmill.shards.errors import UsageError
from reelmill.train import checkpoint
from reelmill.train.config import CimConfig, CocoConfig
from reelmill.train.methods import IGNORED, Targets
from reelmill.train.methods.coco import Coco
from reelmill.train.methods.coco_texts import CocoSources, choose_captions, tell_definition
from reelmill.train.methods.counter import uniform
from reelmill.train.model import VideoStates, VideoTextModel
from safetensors.torch import save_file
from torch.nn.functional import normalize

TEXTS = {
    "verb0 thing": ["red light", "it is dark", "a b c"],
    "verb1 thing": ["green light"],
    "verb2 thing": ["blue light", "so it is", "an arm", "a leg", "one head"],
    "push cup": ["a hand moves", "a cup slides"],
    "lift box": ["a box goes up"],
    "bare": [],
}
NAMES = list(TEXTS)
DEFINITIONS = {
    0: [Definition("to be red", "one")],
    1: [Definition("to be grün", "one"), Definition("to be green", "two")],
    2: [Definition("to be blue", "two")],
    3: [Definition("to move away", "two")],
    4: [Definition("to move up", "two")],
}
SEEN, UNSEEN = tuple(NAMES[:3]), ("push cup", "lift box")
FEW = 3
"""Captions that the classes have at most here: one class has more, one has fewer."""


def make_sources(relevance=None) -> CocoSources:
    actions = [Action(n, name, name, (), (), len(TEXTS[name])) for n, name in enumerate(NAMES)]
    bank = Bank(actions, {n: TEXTS[name] for n, name in enumerate(NAMES)}, "memory")
    scores = {2: np.array([0.1, 0.5, np.nan, 0.5, 0.7], np.float32)} if relevance is None else relevance
    return CocoSources(bank, DEFINITIONS, scores, seed=3)


@pytest.fixture
def make(mini_model):
    """Makes the method in fp64, with the same random weights at every call."""

    def make(**options):
        torch.manual_seed(0)
        config = CocoConfig(**{"width": 6, "captions": FEW} | options)
        return Coco(VideoTextModel.create(mini_model), config, make_sources(), video_width=16).double()

    return make


def videos(count: int) -> VideoStates:
    generator = torch.Generator().manual_seed(3)
    return VideoStates(normalize(torch.randn(count, 1, 2, 16, generator=generator, dtype=torch.float64), dim=-1))


def targets(labels, seed=0) -> Targets:
    labels_B = torch.tensor(labels)
    return Targets(labels_B, (labels_B != IGNORED).sum().double(), seed)


def run(method, video, target, classes=SEEN):
    texts = method.describe(classes, training=True)
    states = method.model.encode_texts(texts.strings)
    outputs = method(video, texts, states)
    found = method.loss(outputs, texts, states, target)
    return {name: loss.item() for name, loss in found.items()}, method.scores(outputs, texts, states)


class Literal:
    """The equations for one method, class by class and caption by caption."""

    def __init__(self, method, video, config):
        self.config, self.method = config, method
        self.features: dict[str, torch.Tensor] = {}
        """Of texts; others are encoded."""
        layers = method.text_layers
        self.define = layers["texts"] if config.share_text_layer else layers["definitions"]
        self.caption = layers["texts"] if config.share_text_layer else layers["captions"]
        self.videos = [self.measured(method.video_layer(frames.mean(0))) for frames in video.frames_BLD]

    def measured(self, row):
        return row / row.norm() if self.config.cosine else row

    def embed(self, text):
        return self.features.get(text, self.method.model.encode_texts([text]).texts_MD[0])

    def z_l(self, name):
        return self.measured(self.define(self.embed(tell_definition(name, make_sources(), self.config))))

    def z_c(self, name):
        total = torch.zeros(self.config.width, dtype=torch.float64)
        captions = choose_captions(name, make_sources(), self.config)
        for caption in captions:
            row = self.caption(self.embed(caption))
            total = total + (row / row.norm() if self.config.normalize_captions else row)
        return self.measured(total / len(captions))

    def z(self, name):
        if self.config.describe_by == "definitions":
            return self.z_l(name)
        if self.config.describe_by == "captions":
            return self.z_c(name)
        return self.config.alpha * self.z_l(name) + (1 - self.config.alpha) * self.z_c(name)

    def cross_entropy(self, labels, classes):
        """Eq. 3, 7 and 13, with k for j below the line."""
        total = 0.0
        for video, label in zip(self.videos, labels, strict=True):
            exponentials = [math.exp((video @ z).item() / self.config.tau) for z in classes]
            total -= math.log(exponentials[label] / math.fsum(exponentials))
        return total / len(labels)

    def rebuilt(self, z, others):
        """Eq. 11 or 12 of one class."""
        exponentials = [math.exp((z @ other).item() / self.config.tau) for other in others]
        mixed = sum(e / math.fsum(exponentials) * other for e, other in zip(exponentials, others, strict=True))
        return mixed / mixed.norm() if self.config.cim.normalize else mixed


LABELS = [0, 2, 1, 2]
VARIANTS = {
    "as it is": {},
    "products": {"cosine": False},
    "captions as they are": {"normalize_captions": False},
    "nothing of length 1": {"cosine": False, "normalize_captions": False},
    "two layers": {"share_text_layer": False, "alpha": 0.2},
    "definitions": {"describe_by": "definitions"},
    "captions": {"describe_by": "captions"},
    "drawn": {"choose": "drawn"},
    "one source": {"definition_source": "two", "definition": "{definition}", "describe_by": "definitions"},
}


@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)
def test_losses_and_scores_are_equations_1_to_10_and_16(make, options):
    classes = ("verb1 thing", "verb2 thing") if "definition_source" in options else SEEN
    labels = [label % len(classes) for label in LABELS]
    method, video = make(**options), videos(4)
    losses, scores = run(method, video, targets(labels), classes)
    with torch.no_grad():
        literal = Literal(method, video, method._config)
        want = {}
        if method._config.describe_by != "captions":
            want["definitions"] = literal.cross_entropy(labels, [literal.z_l(name) for name in classes])
        if method._config.describe_by != "definitions":
            want["captions"] = literal.cross_entropy(labels, [literal.z_c(name) for name in classes])
        assert losses == pytest.approx(want, abs=1e-12)
        for b, video_W in enumerate(literal.videos):
            for c, name in enumerate(classes):
                assert scores[b, c].item() == pytest.approx((video_W @ literal.z(name)).item() / 0.1, abs=1e-10)


@pytest.mark.parametrize("normalize_cycle", [True, False])
@pytest.mark.parametrize("describe_by", ["both", "definitions", "captions"])
def test_the_cycle_is_equations_11_to_15(make, normalize_cycle, describe_by):
    cim = CimConfig(unseen_texts=UNSEEN, weight=0.3, normalize=normalize_cycle)
    method, video = make(cim=cim, tau=0.4, describe_by=describe_by), videos(4)
    losses, scores = run(method, video, targets(LABELS))
    with torch.no_grad():
        literal = Literal(method, video, method._config)
        seen, unseen = [literal.z(name) for name in SEEN], [literal.z(name) for name in UNSEEN]
        there = [literal.rebuilt(z, unseen) for z in seen]
        back = [literal.rebuilt(z, seen) for z in there]
        assert losses["cycle"] == pytest.approx(0.3 * literal.cross_entropy(LABELS, back), abs=1e-12)
    without, plain_scores = run(make(tau=0.4, describe_by=describe_by), video, targets(LABELS))
    assert losses == pytest.approx(without | {"cycle": losses["cycle"]})
    torch.testing.assert_close(scores, plain_scores)


def test_equation_3_as_printed_teaches_nothing():
    # its denominator sums the same p_ij over k: the loss is log C, whatever is learnt, so there is no option for it
    p_ij = torch.tensor([0.3, -0.2], dtype=torch.float64, requires_grad=True)
    printed = -(p_ij.div(0.1).exp() / sum(p_ij.div(0.1).exp() for _ in range(3))).log()
    torch.testing.assert_close(printed, torch.full((2,), math.log(3), dtype=torch.float64))
    assert torch.autograd.grad(printed.sum(), p_ij)[0].abs().max() < 1e-12


def test_a_mean_through_the_layer_is_the_mean_of_what_went_through_it(make):
    method = make(normalize_captions=False, cosine=False, describe_by="captions")
    rows = []
    method.text_layers["texts"].register_forward_hook(lambda _, inputs, __: rows.append(len(inputs[0])))
    run(method, videos(2), targets([0, 1]))
    assert rows == [3, 3]  # one per class, for the loss and for the scores
    texts = method.describe(SEEN)
    assert texts.captions.lengths == (3, 1, 3)


def test_dropout_leaves_values_out_in_training_alone_and_by_the_seed(make):
    method, video = make(text_dropout=0.5), videos(4)
    losses, scores = run(method, video, targets(LABELS, seed=9))
    assert run(method, video, targets(LABELS, seed=9))[0] == losses
    assert run(method, video, targets(LABELS, seed=10))[0] != losses
    torch.testing.assert_close(scores, run(make(), video, targets(LABELS))[1], rtol=0, atol=0)
    with torch.no_grad():
        literal = Literal(method, video, method._config)
        texts = method.describe(SEEN, training=True)
        kept = uniform((len(texts.strings), 16), seed=9, device=torch.device("cpu")) >= 0.5
        features = {text: literal.embed(text) * kept[m] * 2 for m, text in enumerate(texts.strings)}
        literal.features = features
        assert losses["definitions"] == pytest.approx(
            literal.cross_entropy(LABELS, [literal.z_l(name) for name in SEEN])
        )
        assert losses["captions"] == pytest.approx(literal.cross_entropy(LABELS, [literal.z_c(name) for name in SEEN]))


def test_scores_do_not_depend_on_other_classes_or_their_order(make):
    method, video = make(), videos(3)

    def scores(classes):
        texts = method.describe(classes)
        states = method.model.encode_texts(texts.strings)
        return method.scores(method(video, texts, states), texts, states)

    want = scores(SEEN)
    torch.testing.assert_close(scores(SEEN[::-1]), want.flip(1))
    torch.testing.assert_close(scores(("lift box", SEEN[2]))[:, 1], want[:, 2])


def test_ignored_videos_count_nothing(make):
    method, video = make(cim=CimConfig(unseen_texts=UNSEEN)), videos(3)
    found = run(method, video, targets([0, IGNORED, 2]))[0]
    frames = video.frames_BVTD[[0, 2]]
    assert run(method, VideoStates(frames), targets([0, 2]))[0] == pytest.approx(found)


def test_the_layers_learn_and_the_encoders_do_not(make, mini_model, tiny_config, step_gradients):
    model = replace(mini_model, text_learns="none", video_learns="none")
    method = make(share_text_layer=False, cim=CimConfig(unseen_texts=UNSEEN))
    found = step_gradients(method, replace(tiny_config, model=model), 1)
    layers = ("video_layer", "text_layers.definitions", "text_layers.captions")
    assert found.keys() == {f"{layer}.{part}" for layer in layers for part in ("weight", "bias")}
    assert all(grad.abs().max() > 0 for grad in found.values())


def test_batches_of_a_step_add_up(make, mini_model, tiny_config, step_gradients):
    config = replace(tiny_config, model=replace(mini_model, text_learns="none", video_learns="none"))
    options = {"cim": CimConfig(unseen_texts=UNSEEN), "text_dropout": 0.3}
    whole, parts = (step_gradients(make(**options), config, accumulate) for accumulate in (1, 4))
    assert whole.keys() == parts.keys()
    for name in whole:
        torch.testing.assert_close(parts[name], whole[name], rtol=1e-6, atol=1e-12)


def restored(method, other, folder):
    """Put the weights that a method adds into another by way of their file."""
    save_file(dict(method.own_state()), folder / checkpoint.OWN_WEIGHTS)
    checkpoint.load_method(folder, other)


def test_the_layers_are_the_methods_own_weights(make, tmp_path):
    own = make().own_state()
    assert own.keys() == {
        f"{layer}.{part}" for layer in ("video_layer", "text_layers.texts") for part in ("weight", "bias")
    }
    with pytest.raises(UsageError, match=r"must hold the weights of the run's method, but differs in"):
        restored(make(), make(share_text_layer=False), tmp_path)
    other = make()
    torch.nn.init.zeros_(other.video_layer.weight)
    restored(make(), other, tmp_path)
    assert torch.equal(other.video_layer.weight, make().video_layer.weight)


def test_unseen_texts_are_said_loudly_and_only_in_training(make, caplog):
    method = make(cim=CimConfig(unseen_texts=UNSEEN))
    texts = method.describe(SEEN)
    assert (texts.seen, texts.unseen, caplog.text) == (3, 0, "")
    assert method.describe(SEEN, training=True).unseen == 2
    assert "training reads the texts of 2 unseen classes (method.cim.unseen_texts)" in caplog.text
    assert "transductive" in caplog.text


def test_captions_are_the_most_relevant_the_earlier_first():
    sources, config = make_sources(), CocoConfig(captions=3)
    assert choose_captions("verb2 thing", sources, config) == ["one head", "so it is", "a leg"]
    assert choose_captions("verb2 thing", sources, CocoConfig(captions=4))[3] == "blue light"
    assert len(choose_captions("verb2 thing", sources, CocoConfig(captions=5))) == 5
    assert choose_captions("verb1 thing", sources, config) == ["green light"]


def test_captions_are_drawn_by_the_seed_whatever_the_classes():
    drawn = choose_captions("verb2 thing", make_sources({}), CocoConfig(captions=3, choose="drawn"))
    assert len(set(drawn)) == 3
    others = set()
    for seed in range(5):
        sources = replace(make_sources({}), seed=seed)
        others.add(tuple(choose_captions("verb2 thing", sources, CocoConfig(captions=3, choose="drawn"))))
    assert len(others) > 1


def test_definitions_are_told_in_the_words_of_the_config():
    sources = make_sources()
    assert tell_definition("verb1 thing", sources, CocoConfig()) == "verb1 thing: to be grün"
    config = CocoConfig(definition="{definition}", definition_source="two")
    assert tell_definition("verb1 thing", sources, config) == "to be green"


@pytest.mark.parametrize(
    ("classes", "options", "message"),
    [
        (["push cap"], {}, "label 'push cap' must be an action of the bank memory; the nearest is 'push cup'"),
        (["bare"], {}, "class 'bare' must have a definition in the bank's definitions.parquet, but has none"),
        (["verb0 thing"], {"definition_source": "two"}, "must have a definition of source 'two' in the bank's"),
        (["bare"], {"describe_by": "captions"}, "class 'bare' must have descriptions in the bank, but has none"),
        (
            ["verb0 thing"],
            {"captions": 2},
            "the 3 descriptions of 'verb0 thing' must have relevance for 2 to be chosen",
        ),
        (SEEN, {"cim": CimConfig(unseen_texts=SEEN[:1])}, "cim.unseen_texts must be without classes that are trained"),
    ],
)
def test_what_does_not_fit_is_named(make, classes, options, message):
    with pytest.raises(UsageError, match=message):
        make(**options).describe(classes, training=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": 1.5}, r"method.alpha must be in \[0, 1\], got 1.5"),
        ({"text_dropout": 1.0}, r"method.text_dropout must be in \[0, 1\), got 1.0"),
        ({"captions": 0}, "method.captions must be > 0, got 0"),
        ({"width": 0}, "method.width must be > 0, got 0"),
        ({"tau": 0.0}, "method.tau must be > 0 and finite, got 0.0"),
        ({"definition": "{action}"}, r"method.definition must be a text with \{definition\} once"),
    ],
)
def test_a_config_checks_itself(options, message):
    with pytest.raises(UsageError, match=message):
        CocoConfig(**options)


def test_the_cycles_config_checks_itself():
    with pytest.raises(UsageError, match=r"method.cim.unseen_texts must be free of repeated classes, got \['a'\]"):
        CimConfig(unseen_texts=("a", "a"))
    with pytest.raises(UsageError, match=r"method.cim.weight must be > 0 and finite, got 0"):
        CimConfig(weight=0)
