"""Entities of actions (ALT): nouns out of their names, body parts, and the sense that a noun has there. Offline.

Nouns are found by a dictionary (lemminflect), not by a tagger, so the limits are these. A word of the label after the
verb counts as a noun where the dictionary has it as one; words that are more often something else ("back" in "throw
back") are taken too. Neighbouring nouns make one entity ("ice cream", "bow tie"); adjectives and forms in -ing end
it. Of a compound label ("table tennis shot", "hammer throw") the nouns stay together, a move among them. Words for
anything ("something", "object") are no entity.

A noun with several descriptions keeps the one that shares most words with the actions that name it (simplified Lesk;
ties go to the first). Where no word is shared the first, which should be the everyday sense of something that can be
seen, is a guess: a bat in "swing bat" is told from the animal only if a description speaks of swinging or of a game.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache

import lemminflect

from ....shards.bank.texts import VerbObject
from ..names.words import FUNCTION_WORDS, PARTICLES
from .prompts import normalise

NOUN, BODY_PART = "noun", "body part"
_WORD = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")
_NOTHING = frozenset(
    {
        *("something", "someone", "somewhere", "somebody", "anything", "object", "thing", "things", "objects", "sport"),
        *("game", "style", "side", "front", "left", "right", "number", "part", "end", "piece", "lot", "way", "time"),
        *("no", "so", "it", "one", "two", "many", "up", "down", "off", "out", "over", "in", "on", "as"),
    }
)
_THINGS_IN_ING = frozenset({"building", "ceiling", "clothing", "earring", "painting", "pudding", "railing", "wedding"})
_SINGULARS = {"leaves": "leaf", "clothes": "clothes", "glasses": "glasses"}  # where the dictionary takes another word


def nouns(label: VerbObject) -> list[str]:
    """The entities that a label names, in their order: singular, lower case, each once.

    Args:
        label: taken apart. Of a split label only the object is read, of a verb alone only a compound of several words.
    """
    text = label.object or (label.verb if len(label.verb.split()) > 1 else "")
    if not label.object and label.verb.split()[-1].removesuffix("s") in PARTICLES:
        return []
    found: list[str] = []
    run: list[str] = []
    for word in [*_WORD.findall(text.replace("'s", " of ")), ""]:
        if word and _is_noun(word):
            run.append(word)
        elif run:
            found.append(" ".join([*run[:-1], _singular(run[-1])]))
            run = []
    return list(dict.fromkeys(found))


@cache
def _is_noun(word: str) -> bool:
    if word in FUNCTION_WORDS or word in _NOTHING:
        return False
    lemmas = lemminflect.getAllLemmas(word)
    if word.endswith("ing") and word not in _THINGS_IN_ING and word not in lemmas.get("VERB", (word,)):
        return False
    return "NOUN" in lemmas or not lemmas  # a word that the dictionary lacks is most often a name: daf, segway


@cache
def _singular(word: str) -> str:
    if word in _SINGULARS:
        return _SINGULARS[word]
    lemmas = lemminflect.getLemma(word, upos="NOUN", lemmatize_oov=False)
    return str(lemmas[0]) if lemmas else word


def tidy_description(text: str) -> str:
    """A description as it stands after `name: `: evened out, without a full stop, its first letter as written."""
    clean = normalise(text).rstrip(".")
    return clean[:1].lower() + clean[1:] if text.strip()[:1].islower() else clean


def pick_sense(descriptions: Sequence[str], contexts: Iterable[str]) -> str:
    """The description that shares most different words with the contexts; the first where none shares more.

    Args:
        descriptions: of one noun, the most usual first; not empty.
        contexts: names of actions, and other texts about them.
    """
    around = {stem for text in contexts for stem in _stems(text)}
    return max(descriptions, key=lambda text: len(_stems(text) & around))  # max keeps the first of equals


@cache
def _stems(text: str) -> frozenset[str]:
    return frozenset(_stem(word) for word in _WORD.findall(text.lower()) if word not in FUNCTION_WORDS)


@cache
def _stem(word: str) -> str:
    """Verbs before nouns, so that "swings", "swinging" and the label's "swing" are one."""
    for part in ("VERB", "NOUN"):
        lemmas = lemminflect.getLemma(word, upos=part, lemmatize_oov=False)
        if lemmas:
            return str(lemmas[0])
    return word


def gather(labels: Mapping[str, VerbObject]) -> dict[str, list[str]]:
    """Entity → the actions that name it, both sorted.

    Args:
        labels: name of an action → its label taken apart.
    """
    found: dict[str, list[str]] = {}
    for action in sorted(labels):
        for noun in nouns(labels[action]):
            found.setdefault(noun, []).append(action)
    return dict(sorted(found.items()))
