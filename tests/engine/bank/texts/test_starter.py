"""The starter bank holds to every rule that texts of a bank have."""

from collections import Counter

import pytest
from reelmill.engine.bank.names.labels import read_labels
from reelmill.engine.bank.texts import starter
from reelmill.engine.bank.texts.clip_text import count_tokens
from reelmill.engine.bank.texts.entities import BODY_PART, NOUN
from reelmill.engine.bank.texts.files import read_action_texts
from reelmill.engine.bank.texts.prompts import ATTRIBUTES, clean_prompts, normalise
from reelmill.engine.bank.texts.synonyms import build_tree
from reelmill.engine.bank.texts.verb_objects import split_label

ACTIONS = [
    (name, texts)
    for path in sorted(starter.FOLDER.glob("actions/*.toml"))
    for name, texts in read_action_texts(path).items()
]


def test_it_covers_everyday_actions():
    assert len(starter.actions()) == len(ACTIONS) == 101
    assert {"brush tooth", "push up", "sit down", "play guitar", "wash dish", "ride bike"} <= set(starter.actions())


@pytest.mark.parametrize(("name", "texts"), ACTIONS, ids=[name for name, _ in ACTIONS])
def test_an_action_has_twelve_prompts_and_its_steps(name, texts):
    assert set(texts.prompts) == set(ATTRIBUTES)
    prompts = [(attribute, 0, text) for attribute, some in texts.prompts.items() for text in some]
    assert clean_prompts(name, prompts) == (prompts, [])  # nothing to cut, to even out or to leave out
    assert len(texts.subtexts) >= 4
    for text in texts.subtexts:
        assert normalise(text) == text
        assert count_tokens(text) <= 30


def test_no_text_stands_twice():
    counts = Counter(
        t for _, x in ACTIONS for t in (*x.subtexts, *(text for some in x.prompts.values() for text in some))
    )
    assert len(counts) == 12 * 101 + sum(len(texts.subtexts) for _, texts in ACTIONS)
    assert counts.most_common(1)[0][1] == 1


def test_prompts_are_no_filled_in_template():
    """Few texts of an attribute begin with the same four words."""
    for attribute in ATTRIBUTES:
        openings = Counter(" ".join(texts.prompts[attribute][0].split()[:4]) for _, texts in ACTIONS)
        assert openings.most_common(1)[0][1] <= 5, (attribute, openings.most_common(3))


def test_trees_are_whole():
    assert len(starter.trees()) >= 100
    for verb, synonyms in starter.trees().items():
        assert verb == verb.lower().strip()
        assert len(synonyms) >= 3
        assert verb not in synonyms
        tree = build_tree(verb, synonyms, first=99, second=99)
        assert len(tree.children) == len(synonyms) + 1  # nothing was repeated or empty
        for word, more in synonyms.items():
            assert len(tree.grandchildren[word]) == len(more) + 1 >= 3, (verb, word)
            assert verb not in more, (verb, word)


def test_nearly_every_action_has_a_tree():
    without = {split_label(name).verb for name, _ in ACTIONS} - set(starter.trees())
    assert without == {"jump rope", "rock climbing", "yoga"}  # names that nobody says otherwise


def test_entities_have_descriptions_of_their_own():
    entities = starter.entities()
    kinds = Counter(kind for kind, _ in entities.values())
    assert kinds.keys() == {NOUN, BODY_PART}
    assert kinds[NOUN] >= 200
    assert kinds[BODY_PART] >= 45
    senses = [text for _, some in entities.values() for text in some]
    assert len(set(senses)) == len(senses)
    for name, (_, some) in entities.items():
        for text in some:
            assert not text.endswith(".")
            assert count_tokens(f"{name}: {text}") <= 30, name
            assert name not in text.split(), name
            assert normalise(text) == text[0].upper() + text[1:] + "."


def test_it_knows_many_classes_of_the_known_datasets(label_lists):
    from reelmill.engine.bank.names.actions import canonical_name

    known = set(starter.actions())
    counts = {
        file: sum(canonical_name(name) in known for name in read_labels(label_lists / file))
        for file in ("hmdb51/label_map.txt", "ucf101/label_map.txt", "kinetics400/label_map_k400.txt")
    }
    assert counts == {"hmdb51/label_map.txt": 20, "ucf101/label_map.txt": 17, "kinetics400/label_map_k400.txt": 63}
