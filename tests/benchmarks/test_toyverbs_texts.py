import numpy as np
import pytest
from reelmill.benchmarks.toyverbs.texts import (
    SYNONYMS,
    base_labels,
    caption,
    descriptions,
    novel_labels,
    state,
    states,
)
from reelmill.benchmarks.toyverbs.world import BASE_VERBS, NOUNS, NOVEL_VERBS, VERBS, Clip


def words_of_states(verbs):
    lines = [line for verb in verbs for noun in NOUNS for line in descriptions(verb, noun) if line.source == "states"]
    return {word for line in lines for word in line.text.split()}


def test_labels_are_64_base_and_32_novel():
    assert len(set(base_labels())) == 64
    assert len(set(novel_labels())) == 32
    assert not set(base_labels()) & set(novel_labels())
    assert "push ball" in base_labels()
    assert "throw moon" in novel_labels()


def test_novel_verbs_are_described_in_words_of_base_verbs():
    assert words_of_states(NOVEL_VERBS) <= words_of_states(BASE_VERBS)


def test_states_name_no_verb():
    """Else a novel action could not be told from its description, nor a base action learnt from what is seen."""
    verbs = {word for verb in VERBS for word in (verb, *SYNONYMS[verb])}
    assert not words_of_states(VERBS) & verbs


@pytest.mark.parametrize(
    ("verb", "expected"),
    [
        ("push", [("medium", "left"), ("medium", "center"), ("medium", "right")]),
        ("drop", [("medium", "top"), ("medium", "center"), ("medium", "bottom")]),
        ("shrink", [("large", "center"), ("medium", "center"), ("small", "center")]),
        ("throw", [("large", "bottom left"), ("medium", "center"), ("small", "top right")]),
        ("shake", [("medium", "center")]),
    ],
)
def test_states_follow_the_path(verb, expected):
    assert list(states(verb)) == expected


def test_only_twins_share_their_states():
    seen = {verb: frozenset(states(verb)) for verb in VERBS}
    twins = {frozenset(pair) for pair in (("push", "pull"), ("lift", "drop"), ("grow", "shrink"))}
    for verb in VERBS:
        for other in VERBS:
            assert (seen[verb] == seen[other]) == (verb == other or frozenset((verb, other)) in twins)


@pytest.mark.parametrize(
    ("point", "expected"),
    [
        ((0.5, 0.5, 0.5), ("medium", "center")),
        ((0.0, 0.5, 0.0), ("small", "left")),
        ((1.1, -0.1, 1.1), ("large", "top right")),
        ((0.5, 0.9, 0.4), ("medium", "bottom")),
    ],
)
def test_state_has_words_for_every_point(point, expected):
    assert state(*point) == expected


def test_caption_tells_start_middle_and_end():
    x_T = np.array([0.1, 0.5, 0.9], np.float32)
    half_T = np.full(3, 0.5, np.float32)
    clip = Clip(np.zeros((3, 16, 16, 3), np.uint8), "push", "ring", "water", x_T, half_T, half_T)
    start, middle, end = (f"a medium ring at the {place}" for place in ("left", "center", "right"))
    assert caption(clip) == f"{start}, then {middle}, then {end}, on the water"


def test_every_action_has_states_motion_naming_and_noise():
    for verb in VERBS:
        for noun in NOUNS:
            lines = list(descriptions(verb, noun))
            assert {line.source for line in lines} == {"states", "motion", "naming", "web"}
            assert {line.action for line in lines} == {f"{verb} {noun}"}
            assert sum(line.source == "web" for line in lines) == 1
            assert len({line.text for line in lines}) == len(lines)
