"""Trees and draws against the paper's definitions, written out once more by hand."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reelmill.engine.bank.texts.origin import Origin
from reelmill.engine.bank.texts.synonyms import (
    Shadow,
    build_tree,
    children,
    draw_positives,
    draw_shadows,
    leaves,
    positives,
    shadow_pools,
    shadow_words,
    srt_draws,
    tree_rows,
)
from reelmill.shards.bank.texts import SynonymTree, VerbObject
from reelmill.shards.errors import UsageError


def tree(verb, **words):
    return build_tree(verb, {word: more.split() for word, more in words.items()}, first=9, second=9)


SPIN = tree("spin", rotate="revolve swivel", turn="rotate twist")
FASTEN = tree("fasten", attach="join spin", fix="mount")
LIFT = tree("lift", raise_="elevate", hoist="heave")
TREES = {t.verb: t for t in (SPIN, FASTEN, LIFT)}
VERBS = ["spin", "fasten", "lift", "spin"]

words = st.sampled_from("abcdefgh")
forests = st.dictionaries(words, st.lists(words, max_size=5), min_size=1, max_size=6)


def test_every_parent_is_its_own_first_child():
    assert (
        SynonymTree(
            "spin",
            ("spin", "rotate", "turn"),
            {
                "spin": ("spin", "rotate", "turn"),
                "rotate": ("rotate", "revolve", "swivel"),
                "turn": ("turn", "rotate", "twist"),
            },
        )
        == SPIN
    )


def test_children_are_normalised_each_once_and_at_most_m():
    assert children("a", ["b\0c", "\u200b", "D\ne\u0301"], 9) == ("a", "b c", "d é")
    assert children("Spin", [" Rotate", "spin", "rotate ", "", "turn  round", "x"], 3) == (
        "spin",
        "rotate",
        "turn round",
    )
    short = build_tree("go", {"walk": ["go", "walk", "stroll", "amble"], "run": []}, first=2, second=3)
    assert short == SynonymTree("go", ("go", "walk"), {"go": ("go", "walk"), "walk": ("walk", "go", "stroll")})
    assert build_tree("go", {}, first=5, second=5) == SynonymTree("go", ("go",), {"go": ("go",)})


@pytest.mark.parametrize("m", [2, 9, 11])
def test_the_papers_numbers_of_children(m):
    names = [f"w{n}" for n in range(20)]
    big = build_tree("v", {w: [f"{w}-{n}" for n in range(20)] for w in names}, first=m, second=m)
    assert len(big.children) == m
    assert {len(more) for more in big.grandchildren.values()} == {m}
    assert set(big.grandchildren) == set(big.children)


def test_rows_have_places_and_provenance():
    rows = list(tree_rows(SPIN, {"": Origin("f"), "turn": Origin("llm", "h")}))
    assert [(r["order"], r["parent"], r["child"], r["position"]) for r in rows[:3]] == [
        (1, "spin", "spin", 0),
        (1, "spin", "rotate", 1),
        (1, "spin", "turn", 2),
    ]
    assert {(r["source"], r["prompt_hash"]) for r in rows if r["parent"] == "turn"} == {("llm", "h")}
    assert {(r["source"], r["prompt_hash"]) for r in rows if r["parent"] != "turn"} == {("f", None)}
    assert len(rows) == 3 + 9


def test_leaves_of_an_action_are_its_verbs_children_with_the_object():
    action = VerbObject("spin", "block", "{verb} {object}")
    assert leaves(action, TREES) == ["spin block", "rotate block", "turn block"]
    assert leaves(action, TREES, "turn") == ["turn block", "rotate block", "twist block"]
    assert leaves(action, TREES, "gyrate") == ["gyrate block"]
    assert leaves(VerbObject("weld", "", "{verb}"), TREES) == ["weld"]


@given(forests)
def test_shadow_pools_are_equation_6(forest):
    trees = {verb: build_tree(verb, dict.fromkeys(more, ()), first=9, second=9) for verb, more in forest.items()}
    verbs = list(trees)
    positive = [set(trees[v].children) for v in verbs]
    for i, pool in enumerate(shadow_pools(verbs, trees)):
        literal = set().union(*(positive[j] - positive[i] for j in range(len(verbs))))
        assert {shadow.verb for shadow in pool} == literal
        assert len(pool) == len(literal)
        for shadow in pool:
            assert shadow.owner == next(j for j in range(len(verbs)) if shadow.verb in positive[j])


def test_classes_that_share_the_verb_have_no_shadow():
    pools = shadow_pools(["spin", "spin"], TREES)
    assert pools == [[], []]
    assert draw_shadows(pools, seed=0, step=0) == [None, None]


def test_a_shadow_drops_children_of_the_true_concept():
    shadow = Shadow("attach", 1)
    assert shadow_words(shadow, "spin", VERBS, TREES) == ("attach", "join")
    assert shadow_words(shadow, "spin", VERBS, TREES, keep_shared=True) == ("attach", "join", "spin")
    for pool, verb in zip(shadow_pools(VERBS, TREES), VERBS, strict=True):
        for one in pool:
            assert shadow_words(one, verb, VERBS, TREES)[0] == one.verb


def test_draws_are_uniform_over_the_children_and_seeded():
    draws = [draw_positives(VERBS, TREES, seed=3, step=step) for step in range(3000)]
    assert draws == [draw_positives(VERBS, TREES, seed=3, step=step) for step in range(3000)]
    assert draws[0] != draw_positives(VERBS, TREES, seed=4, step=0) or draws[1] != draw_positives(
        VERBS, TREES, seed=4, step=1
    )
    for i, verb in enumerate(VERBS):
        counts = Counter(draw[i] for draw in draws)
        assert set(counts) == set(positives(verb, TREES))
        assert all(abs(count - 1000) < 120 for count in counts.values())  # 4.6 standard deviations
    assert any(draw[0] != draw[3] for draw in draws)  # classes of one verb draw independently


def test_shadows_are_drawn_out_of_their_pool():
    pools = shadow_pools(VERBS, TREES)
    drawn = [draw_shadows(pools, seed=0, step=step) for step in range(400)]
    for i, pool in enumerate(pools):
        assert {draw[i] for draw in drawn} == set(pool)


CLASSES = [("0", "spin"), ("1", "fasten"), ("2", "lift")]


def test_srt_draws_are_pinned():
    assert srt_draws(CLASSES, TREES, runs=3, seed=0) == {
        "0": {"0": "turn", "1": "attach", "2": "raise_"},
        "1": {"0": "rotate", "1": "attach", "2": "hoist"},
        "2": {"0": "turn", "1": "attach", "2": "hoist"},
    }


def test_srt_draws_unseen_children_other_than_the_root():
    draws = srt_draws(CLASSES, TREES, runs=40, seed=1, seen={"attach"})
    assert list(draws) == [str(run) for run in range(40)]
    for run in draws.values():
        assert list(run) == ["0", "1", "2"]
        assert run["0"] in ("rotate", "turn")
        assert run["1"] == "fix"
    assert len({run["0"] for run in draws.values()}) == 2
    few = srt_draws(CLASSES[:1], TREES, runs=10, seed=1)
    assert all(few[run]["0"] == draws[run]["0"] for run in few)


def test_srt_without_a_synonym_is_told():
    with pytest.raises(
        UsageError, match=r"must have an unseen synonym of order 1 .*, but 2 of 4 have none: 3 \('weld'\)"
    ):
        srt_draws([*CLASSES[:2], ("3", "weld"), ("4", "weld")], TREES, runs=10, seed=0)
