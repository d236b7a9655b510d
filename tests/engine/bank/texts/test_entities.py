"""Nouns out of labels, and the sense that a noun has in them."""

import pytest
from reelmill.engine.bank.names.labels import read_labels
from reelmill.engine.bank.texts.entities import gather, nouns, pick_sense, tidy_description
from reelmill.engine.bank.texts.verb_objects import split_label

BAT = ["wooden club that is swung to hit a ball in a game", "small flying animal with wings"]
BOW = ["curved piece of wood that is drawn to shoot an arrow", "knot with two loops, tied in a ribbon"]


@pytest.mark.parametrize(
    ("label", "found"),
    [
        ("brush hair", ["hair"]),
        ("BrushingTeeth", ["tooth"]),
        ("washing dishes", ["dish"]),
        ("eating ice cream", ["ice cream"]),
        ("tying bow tie", ["bow tie"]),
        ("massaging person's head", ["person", "head"]),
        ("passing American football (in game)", ["american football"]),
        ("Putting something on a table", ["table"]),
        ("blowing leaves", ["leaf"]),
        ("TableTennisShot", ["table tennis shot"]),
        ("belly dancing", ["belly"]),
        ("balloon blowing", ["balloon"]),
        ("folding clothes", ["clothes"]),
        ("PlayingDaf", ["daf"]),
        ("jump", []),
        ("push up", []),
        ("PullUps", []),
        ("archery", []),
        ("hit (an object)", []),
    ],
)
def test_nouns_of_labels(label, found):
    assert nouns(split_label(label)) == found


@pytest.mark.parametrize(
    ("text", "tidy"),
    [("round  thing .", "round thing"), ("A thing.", "A thing"), ("- ", ""), ("a. b.", "a. b")],
)
def test_descriptions_follow_a_name(text, tidy):
    assert tidy_description(text) == tidy


def test_entities_know_their_actions():
    labels = {name: split_label(name) for name in ("kick ball", "throw ball", "brush hair")}
    assert gather(labels) == {"ball": ["kick ball", "throw ball"], "hair": ["brush hair"]}


@pytest.mark.parametrize(
    ("senses", "contexts", "chosen"),
    [
        (BAT, ["swing bat"], 0),
        (BAT, ["watch a flying bat"], 1),
        (BAT, ["hold bat"], 0),  # nothing is shared: the first, which is a guess
        (BOW, ["tie bow", "tying a ribbon"], 1),
        (BOW, ["shoot bow"], 0),
        (BOW, [], 0),
        (["only one"], ["anything"], 0),
    ],
)
def test_the_sense_that_shares_words_with_the_actions(senses, contexts, chosen):
    assert pick_sense(senses, contexts) == senses[chosen]


def test_real_lists(label_lists):
    names = read_labels(label_lists / "hmdb51/label_map.txt") + read_labels(
        label_lists / "kinetics400/label_map_k400.txt"
    )
    found = gather({name: split_label(name) for name in names})
    assert {"guitar", "hair", "basketball", "ice cream", "bow tie", "tooth", "candle"} <= set(found)
    assert not {"something", "playing", "the", "up"} & set(found)
    assert len(found) == 258
