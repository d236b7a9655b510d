"""Action names as people write them → canonical names.

The `safe` rules: CamelCase and underscores become words, lower case, articles go, the verbs become lemmas. Particles
and prepositions stay: push up is not push. (METHODS: ActionHub's own rules drop them; see `paper` in the docs.)
"""

import re
from functools import cache

import lemminflect

ARTICLES = frozenset({"a", "an", "the"})
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")


@cache
def canonical_name(name: str) -> str:
    """`ApplyEyeMakeup`, `applying_eye_makeup` and `apply eye makeup` → "apply eye makeup".

    Args:
        name: an action's name in any of the usual spellings.

    Returns:
        Lower-case words with single spaces, lemmas where a word can be a verb, without articles; the name itself in
        lower case where nothing would be left.
    """
    words = [word.lower() for word in _WORD.findall(_CAMEL.sub(" ", name))]
    kept = [_lemma(word) for word in words if word not in ARTICLES]
    return " ".join(kept) or name.strip().lower()


@cache
def _lemma(word: str) -> str:
    """The verb's lemma where the word is a known verb form, else the noun's: playing → play, horses → horse."""
    if not word.isalpha():
        return word
    for part_of_speech in ("VERB", "NOUN"):
        lemmas = lemminflect.getLemma(word, upos=part_of_speech, lemmatize_oov=False)
        if lemmas:
            return str(lemmas[0])
    return word
