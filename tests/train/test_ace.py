"""ACE against its equations, written out once more with loops in fp64."""

import itertools
import math
from dataclasses import replace

import pytest
import torch
from reelmill.shards.bank import Action, Bank
from reelmill.shards.bank.texts import SynonymTree, VerbObject
from reelmill.shards.errors import UsageError
from reelmill.train import checkpoint
from reelmill.train.config import AceConfig, ModelConfig
from reelmill.train.methods import IGNORED, Targets
from reelmill.train.methods.ace import Ace
from reelmill.train.model import VideoStates, VideoTextModel
from safetensors.torch import save_file

PUSH = SynonymTree(
    "push",
    ("push", "shove", "press"),
    {"push": ("push", "propel"), "shove": ("shove", "thrust", "push"), "press": ("press", "squeeze")},
)
LIFT = SynonymTree("lift", ("lift", "raise"), {"lift": ("lift", "hoist"), "raise": ("raise", "shove", "boost")})
WAVE = SynonymTree("wave", ("wave", "signal"), {"wave": ("wave",), "signal": ("signal", "lift")})
TREES = {tree.verb: tree for tree in (PUSH, LIFT, WAVE)}
LABELS = {
    "push cup": VerbObject("push", "cup", "{verb} {object}"),
    "lift box": VerbObject("lift", "box", "{verb} the {object}"),
    "wave": VerbObject("wave", "", "{verb}"),
    "push box": VerbObject("push", "box", "{verb} {object}"),
    "jump": VerbObject("jump", "", "{verb}"),
    "verb0 thing": VerbObject("push", "thing", "{verb} {object}"),
    "verb1 thing": VerbObject("lift", "thing", "{verb} {object}"),
    "verb2 thing": VerbObject("wave", "thing", "{verb} {object}"),
}
CLASSES = ("push cup", "lift box", "wave")
TAU = 0.5  # so high that all classes pull


@pytest.fixture
def make(mini_model):
    """Makes the method in fp64, with the same random weights at every call."""

    def make(model: ModelConfig = mini_model, labels=LABELS, **options):
        torch.manual_seed(0)
        names = [*LABELS, "unsplit thing"]
        bank = Bank([Action(number, name, name, (), (), 0) for number, name in enumerate(names)], {}, "memory")
        by_id = {number: labels[name] for number, name in enumerate(names) if name in labels}
        encoders = VideoTextModel.create(replace(mini_model, video=model.video))
        return Ace(encoders, AceConfig(**{"tau": TAU} | options), bank, by_id, TREES).double()

    return make


class Literal:
    """The equations for one method and some videos."""

    def __init__(self, method, video, tau=TAU):
        self._method, self._tau = method, tau
        self._embeddings: dict[str, torch.Tensor] = {}
        self._similarities: dict[tuple, float] = {}
        self.videos = torch.nn.functional.normalize(video.frames_BLD.mean(1), dim=1)

    def similarity(self, video: int, name: str, verbs) -> float:
        """Eq. 3 of an action under these verbs."""
        if (video, name, verbs) not in self._similarities:
            total = 0.0
            for verb in verbs:
                total += float(self.videos[video] @ self._embed(LABELS[name].text(verb)))
            self._similarities[video, name, verbs] = total / (self._tau * len(verbs))
        return self._similarities[video, name, verbs]

    @torch.no_grad()
    def _embed(self, text: str) -> torch.Tensor:
        if text not in self._embeddings:
            self._embeddings[text] = self._method.model.encode_texts([text]).texts_MD[0]
        return self._embeddings[text]

    def loss(self, labels, classes, verbs, shadows) -> float:
        """Eq. 2 or 5 with Eq. 8: `verbs` and `shadows` by class, each the verbs of leaves; a shadow may be None."""
        total = 0.0
        for video, label in enumerate(labels):
            scores = [self.similarity(video, name, words) for name, words in zip(classes, verbs, strict=True)]
            others = math.fsum(math.exp(score) for score in scores)
            if shadows[label] is not None:
                others += math.exp(self.similarity(video, classes[label], shadows[label]))
            total -= math.log(math.exp(scores[label]) / others)
        return total / len(labels)


def videos(count: int, views: int = 1) -> VideoStates:
    generator = torch.Generator().manual_seed(3)
    frames = torch.randn(count, views, 2, 16, generator=generator, dtype=torch.float64)
    return VideoStates(torch.nn.functional.normalize(frames, dim=-1))


def targets(labels, seed=0, seeds=None) -> Targets:
    labels_B = torch.tensor(labels)
    counted = (labels_B != IGNORED).sum().double()
    return Targets(labels_B, counted, seed, seeds_B=None if seeds is None else torch.tensor(seeds))


def scores(method, video, texts):
    states = method.model.encode_texts(texts.strings)
    return method.scores(method(video, texts, states), texts, states)


def losses(method, video, target, classes=CLASSES):
    texts = method.describe(classes, training=True)
    states = method.model.encode_texts(texts.strings)
    found = method.loss(method(video, texts, states), texts, states, target)
    return {name: loss.item() for name, loss in found.items()}


def w_plus(tree, child):
    return tree.grandchildren[child]


def test_scores_are_equation_3_over_all_views(make):
    method, video = make(), videos(4, views=2)
    found = scores(method, video, method.describe(CLASSES))
    literal = Literal(method, video)
    for b, (c, name) in itertools.product(range(4), enumerate(CLASSES)):
        want = literal.similarity(b, name, TREES[LABELS[name].verb].children)
        assert found[b, c].item() == pytest.approx(want, abs=1e-12)


def test_a_class_called_by_a_synonym_is_the_mean_of_its_children(make):
    method, video = make(), videos(3)
    found = scores(method, video, method.describe(CLASSES, verbs={"push cup": "shove", "wave": "wave"}))
    literal = Literal(method, video)
    for b in range(3):
        assert found[b, 0].item() == pytest.approx(literal.similarity(b, "push cup", ("shove", "thrust", "push")))
        assert found[b, 1].item() == pytest.approx(literal.similarity(b, "lift box", LIFT.children))
        assert found[b, 2].item() == pytest.approx(literal.similarity(b, "wave", WAVE.children))


def test_scores_do_not_depend_on_training_other_classes_or_their_order(make):
    method, video = make(), videos(3)
    want = scores(method, video, method.describe(CLASSES))
    torch.testing.assert_close(scores(method, video, method.describe(CLASSES, training=True)), want)
    torch.testing.assert_close(scores(method, video, method.describe(CLASSES[::-1])), want.flip(1))
    torch.testing.assert_close(scores(method, video, method.describe(("push box", "wave")))[:, 1], want[:, 2])


def possible_shadows(name, classes, *, shared):
    """Eq. 6 and 7: the leaves of every negative that may be drawn for a class."""
    mine = TREES[LABELS[name].verb].children
    found = []
    for other in classes:
        tree = TREES[LABELS[other].verb]
        for verb in tree.children:
            if verb not in mine:
                found.append(tuple(word for word in w_plus(tree, verb) if shared or word not in mine))
    return sorted(set(found))


def drawn(method, video, target, classes, shared=False):
    """Which names and shadows explain both losses: found by trying all that the equations allow."""
    found, labels, literal = losses(method, video, target, classes), target.labels_B.tolist(), Literal(method, video)
    trees = [TREES[LABELS[name].verb] for name in classes]
    pools = [possible_shadows(name, classes, shared=shared) or [None] for name in classes]
    roots = [tree.children for tree in trees]
    shadows = [
        each for each in itertools.product(*pools)
        if literal.loss(labels, classes, roots, each) == pytest.approx(found["fixed"], abs=1e-12)
    ]  # fmt: skip
    assert len(shadows) == 1
    names = [
        each for each in itertools.product(*(tree.children for tree in trees))
        if literal.loss(labels, classes, [w_plus(*pair) for pair in zip(trees, each, strict=True)], shadows[0])
        == pytest.approx(found["random"], abs=1e-12)
    ]  # fmt: skip
    assert len(names) == 1
    return names[0], shadows[0]


@pytest.mark.parametrize("shared", [False, True])
def test_both_losses_are_equation_9_under_one_draw(make, shared):
    method = make(shared_children=shared)
    names, shadows = drawn(method, videos(3), targets([0, 1, 2], seed=5), CLASSES, shared)
    # another order of the classes draws the same for each
    assert drawn(method, videos(3), targets([2, 1, 0], seed=5), CLASSES[::-1], shared) == (names[::-1], shadows[::-1])


def test_only_the_flag_keeps_children_that_are_right_for_the_class():
    assert ("raise", "boost") in possible_shadows("push cup", CLASSES, shared=False)  # without shove
    assert ("raise", "shove", "boost") in possible_shadows("push cup", CLASSES, shared=True)


def test_every_step_draws_anew(make):
    method = make()
    texts = method.describe(CLASSES, training=True)
    states = method.model.encode_texts(texts.strings)
    outputs = method(videos(3), texts, states)
    found = [method.loss(outputs, texts, states, targets([0, 1, 2], seed=seed)) for seed in range(60)]
    again = method.loss(outputs, texts, states, targets([0, 1, 2], seed=0))
    assert found[0] == again
    shadows = math.prod(len(possible_shadows(name, CLASSES, shared=False)) for name in CLASSES)
    assert shadows == 4 * 5 * 5
    assert 30 < len({round(each["fixed"].item(), 10) for each in found}) <= 60
    assert len({round(each["random"].item(), 10) for each in found}) > 50


def test_a_shadow_for_each_video_follows_from_the_videos_seed(make):
    method, video, labels, seeds = make(shadow="per-sample"), videos(4), [0, 0, 1, IGNORED], [5, -9, 3, 1]
    found = losses(method, video, targets(labels, seeds=seeds))["fixed"]
    roots = [TREES[LABELS[name].verb].children for name in CLASSES]
    possible = []
    for b, label in enumerate(labels[:3]):
        alone = Literal(method, VideoStates(video.frames_BVTD[b : b + 1]))
        pool = possible_shadows(CLASSES[label], CLASSES, shared=False)
        possible.append({shadow: alone.loss([label], CLASSES, roots, [shadow] * 3) / 3 for shadow in pool})
    drawn = [
        pool for pool in itertools.product(*possible)
        if sum(possible[b][shadow] for b, shadow in enumerate(pool)) == pytest.approx(found, abs=1e-12)
    ]  # fmt: skip
    assert len(drawn) == 1
    assert drawn[0][0] != drawn[0][1]  # two videos of one class


def test_a_class_whose_verb_all_share_has_no_shadow(make):
    method, video, classes = make(), videos(2), ("push cup", "push box")
    literal = Literal(method, video).loss([0, 1], classes, [PUSH.children] * 2, [None, None])
    assert losses(method, video, targets([0, 1]), classes)["fixed"] == pytest.approx(literal)


def test_an_action_without_an_object_has_a_plain_verb_as_its_shadow(make):
    texts = make().describe(("wave", "jump"), training=True)
    strings = [[[texts.strings[row] for row in leaves] for leaves in pool] for pool in texts.shadows]
    assert strings == [[["jump"]], [["signal", "lift"], ["wave"]]]


def test_without_leaves_an_action_is_its_name_alone(make):
    method, video = make(average_leaves=False), videos(3)
    texts = method.describe(CLASSES, training=True, verbs={"push cup": "shove"})
    assert [texts.strings[row] for row in texts.rows_P] == ["shove cup", "lift the box", "wave"]
    assert {len(leaves) for pool in (*texts.names, *texts.shadows) for leaves in pool} == {1}
    found = scores(method, video, texts)
    assert found[0, 0].item() == pytest.approx(Literal(method, video).similarity(0, "push cup", ("shove",)))


@pytest.mark.parametrize(
    ("options", "names"),
    [({}, ["fixed", "random"]), ({"fixed_loss": False}, ["random"]), ({"random_loss": False}, ["fixed"])],
)
def test_either_loss_can_be_left_out(make, options, names):
    whole = losses(make(), videos(3), targets([0, 1, 2]))
    assert losses(make(**options), videos(3), targets([0, 1, 2])) == {name: whole[name] for name in names}


def test_without_a_shadow_it_is_plain_cross_entropy(make):
    method, video = make(shadow="none"), videos(3)
    assert method.describe(CLASSES, training=True).shadows == ()
    want = torch.nn.functional.cross_entropy(
        scores(method, video, method.describe(CLASSES)), torch.tensor([0, 1, 2])
    ).item()
    assert losses(method, video, targets([0, 1, 2]))["fixed"] == pytest.approx(want)


def test_fewer_children_and_negatives_are_kept_where_asked(make):
    texts = make(first_order=2, second_order=1).describe(CLASSES, training=True)
    assert texts.leaves.lengths == (2, 2, 2)
    assert [len(names) for names in texts.names] == [2, 2, 2]
    assert {len(leaves) for pool in texts.names for leaves in pool} == {1}
    full = make().describe(CLASSES, training=True)
    few = make(shadow_verbs=2).describe(CLASSES, training=True)
    for pool, kept in zip(full.shadows, few.shadows, strict=True):
        told = {tuple(full.strings[row] for row in leaves) for leaves in pool}
        assert len(kept) == 2
        assert {tuple(few.strings[row] for row in leaves) for leaves in kept} < told


def test_a_prompt_stands_around_every_name(make):
    texts = make(prompt="a video of {action}.").describe(("push cup",))
    assert texts.strings == ("a video of push cup.", "a video of shove cup.", "a video of press cup.")


def test_ignored_videos_count_nothing_and_pull_on_nothing(make):
    method, video = make(), videos(3)
    found = losses(method, video, targets([0, IGNORED, 2]))
    frames = video.frames_BVTD.clone()
    frames[1] = torch.nan
    assert losses(method, VideoStates(frames), targets([0, IGNORED, 2])) == found


def test_the_projection_the_last_block_and_time_learn(make, mini_model, tiny_config, step_gradients):
    model = ModelConfig(video="space-time", text_learns="projection", video_learns="last", last_blocks=1)
    config = replace(tiny_config, model=replace(model, name=mini_model.name))
    found = step_gradients(make(model), config, 1)
    learnt = {name.split(".")[2] for name in found if name.startswith("model.clip.")}
    assert learnt == {"text_projection", "visual"}
    kept = ("model.clip.visual.transformer.resblocks.0.", "model.clip.visual.ln_post.", "model.clip.visual.proj")
    assert all(name.startswith(kept) for name in found if ".visual." in name)
    assert any(name.startswith("model.space_time.") for name in found)
    assert "model.clip.logit_scale" not in found
    assert all(grad.isfinite().all() for grad in found.values())


def test_attention_over_time_is_kept_with_the_methods_weights(make, tmp_path):
    method, other = (make(ModelConfig(video="space-time")) for _ in range(2))
    own = dict(method.own_state())
    assert own
    assert all(name.startswith("model.space_time.") for name in own)
    for value in own.values():
        torch.nn.init.normal_(value)
    save_file(own, tmp_path / checkpoint.OWN_WEIGHTS)
    checkpoint.load_method(tmp_path, other)
    assert all(torch.equal(value, other.own_state()[name]) for name, value in own.items())
    assert make().own_state() == {}
    with pytest.raises(UsageError, match=r"must hold the weights of the run's method, but differs in"):
        checkpoint.load_method(tmp_path, make())


@pytest.mark.parametrize("shadow", ["per-class", "per-sample"])
def test_batches_of_a_step_add_up(make, mini_model, tiny_config, step_gradients, shadow):
    config = replace(tiny_config, model=replace(mini_model, text_learns="projection"))
    whole, parts = (step_gradients(make(shadow=shadow), config, accumulate) for accumulate in (1, 4))
    assert whole.keys() == parts.keys()
    assert whole["model.clip.text_projection"].abs().max() > 1e-3
    for name in whole:
        torch.testing.assert_close(parts[name], whole[name], rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize(
    ("classes", "verbs", "message"),
    [
        (["push cap"], {}, "label 'push cap' must be an action of the bank memory; the nearest is 'push cup'"),
        (["unsplit thing"], {}, "class 'unsplit thing' must be in the bank's verb_objects.parquet, but is not"),
        (["wave"], {"wave": "lift"}, r"the verb of class 'wave' must be one of wave, signal \(its children in"),
        (["wave"], {"jump": "jump"}, r"verbs must be given for classes that are evaluated, got \['jump'\]"),
    ],
)
def test_what_does_not_fit_is_named(make, classes, verbs, message):
    with pytest.raises(UsageError, match=message):
        make().describe(classes, verbs=verbs)


def test_verbs_without_a_tree_are_said(make, caplog):
    make().describe(("wave", "jump"), training=True)
    assert "1 verbs have no tree in synonyms.parquet and stand alone: jump" in caplog.text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prompt": "a video"}, r"method.prompt must be a text with \{action\} in it once, got 'a video'"),
        ({"tau": 0.0}, "method.tau must be > 0 and finite, got 0.0"),
        ({"shadow_verbs": -1}, "method.shadow_verbs must be >= 0, got -1"),
        ({"fixed_loss": False, "random_loss": False}, "method.random_loss must be true where method.fixed_loss is"),
    ],
)
def test_a_config_checks_itself(options, message):
    with pytest.raises(UsageError, match=message):
        AceConfig(**options)
