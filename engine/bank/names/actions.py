"""Action names as people write them → canonical names, rule by rule.

Two sets of rules. `safe`: CamelCase, underscores, `+` and punctuation become words; lower case; articles go; words
become lemmas, as verbs before as nouns. Particles, prepositions and what stands in parentheses stay: push up is not
push. `paper` follows ActionHub: all function words go, particles among them, and the text in parentheses.
"""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal, get_args

import lemminflect

from ....shards.errors import UsageError
from .words import ARTICLES, FUNCTION_WORDS, MINIMAL

RuleSet = Literal["safe", "paper"]
Parentheses = Literal["keep", "drop"]
DropWords = Literal["off", "articles", "minimal", "function"]
Lemma = Literal["off", "verb", "noun", "verb+noun"]

CACHED_NAMES = 1 << 16
CACHED_NAME_CHARS = 200  # longer names are worked out each time: the cache is bounded in bytes too
LONGEST_WORD = 64  # no longer word has an entry in the dictionary of lemmas

_DROPPED: dict[str, frozenset[str]] = {"articles": ARTICLES, "minimal": MINIMAL, "function": FUNCTION_WORDS}
_PARTS: dict[str, tuple[str, ...]] = {"verb": ("VERB",), "noun": ("NOUN",), "verb+noun": ("VERB", "NOUN")}
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")
_MARKED_WORD = re.compile(r"[^\s']+(?:'[^\s']+)*")  # of a text in which all else has become spaces
_INFLECTED = re.compile(r"..(?:ing|ed|(?<![suiy])s)$")


@dataclass(frozen=True, kw_only=True, slots=True)
class NameRules:
    """What is done to a name, in this order. A rule that would leave nothing of a name is not applied to it."""

    unicode: bool = True
    """Compatibility forms (NFKC), straight apostrophes, no invisible characters: one name per look."""
    parentheses: Parentheses = "keep"
    """drop: text in parentheses goes, nested or not; a parenthesis without its partner stays."""
    camel_case: bool = True
    """ApplyEyeMakeup → Apply Eye Makeup."""
    punctuation: bool = True
    """Underscores, +, /, hyphens and all that is no letter, digit or apostrophe inside a word become spaces."""
    lower_case: bool = True
    """Small letters; words and lemmas are only found in them."""
    drop_words: DropWords = "articles"
    """Words that go: off, none; articles; minimal (a the of or and to with in on); function: particles too."""
    lemma: Lemma = "verb+noun"
    """playing → play as a verb, horses → horse as a noun; verb+noun tries the verb first."""
    guess_lemmas: bool = False
    """With lemma: words that the dictionary lacks go by their endings -ing, -ed and -s: jetskiing → jetski."""

    def __post_init__(self) -> None:
        for name, choice in (("parentheses", Parentheses), ("drop_words", DropWords), ("lemma", Lemma)):
            if getattr(self, name) not in get_args(choice):
                raise UsageError(f"{name} must be one of {', '.join(get_args(choice))}, got {getattr(self, name)!r}")
        for name in ("unicode", "camel_case", "punctuation", "lower_case", "guess_lemmas"):
            if not isinstance(getattr(self, name), bool):
                raise UsageError(f"{name} must be true or false, got {getattr(self, name)!r}")
        for name in ("drop_words", "lemma"):
            if not self.lower_case and getattr(self, name) != "off":
                raise UsageError(f"{name} must be off without lower_case, got {getattr(self, name)}")
        if self.guess_lemmas and self.lemma == "off":
            raise UsageError("guess_lemmas must go with a lemma, got lemma off")

    @classmethod
    def of(cls, rules: RuleSet, **overrides: Any) -> "NameRules":
        """The rules called `rules`, with single ones set otherwise.

        Raises:
            UsageError: no such rule set, rule or choice.
        """
        if rules not in RULE_SETS:
            raise UsageError(f"rules must be one of {', '.join(RULE_SETS)}, got {rules!r}")
        unknown = next((name for name in overrides if name not in cls.__slots__), None)
        if unknown is not None:
            raise UsageError(f"a rule must be one of {', '.join(cls.__slots__)}, got {unknown!r}")
        if overrides.get("lemma") == "off":
            overrides.setdefault("guess_lemmas", False)
        return replace(RULE_SETS[rules], **overrides)


SAFE = NameRules()
PAPER = NameRules(parentheses="drop", drop_words="function", guess_lemmas=True)
RULE_SETS: dict[RuleSet, NameRules] = {"safe": SAFE, "paper": PAPER}


def canonical_name(name: str, rules: NameRules = SAFE) -> str:
    """`ApplyEyeMakeup`, `applying_eye_makeup` and `apply eye makeup` → "apply eye makeup".

    Args:
        name: an action's name in any of the usual spellings.
        rules: what is done to it.

    Returns:
        Its words with single spaces between them; empty for an empty name alone.
    """
    return _cached(name, rules) if len(name) <= CACHED_NAME_CHARS else _canonical(name, rules)


def applied_rules(name: str, rules: NameRules = SAFE) -> tuple[str, ...]:
    """The rules that changed `name`, in order: "whitespace", "unicode", "parentheses", "camel_case", "punctuation",
    "lower_case", "articles" or "function_words", "lemma".
    """
    before, changed = name, []
    for rule, after in name_steps(name, rules):
        if after != before:
            changed.append(rule)
        before = after
    return tuple(changed)


def name_steps(name: str, rules: NameRules) -> Iterator[tuple[str, str]]:
    """Every rule that is on, in order, with what the name is after it."""
    text = " ".join(name.split())
    yield "whitespace", text
    if rules.unicode:
        text = _unicode(text) or text
        yield "unicode", text
    if rules.parentheses == "drop":
        text = _without_parentheses(text) or text
        yield "parentheses", text
    if rules.camel_case:
        text = _CAMEL.sub(" ", text)
        yield "camel_case", text
    if rules.punctuation:
        text = _words(text) or text
        yield "punctuation", text
    if rules.lower_case:
        text = text.lower()
        yield "lower_case", text
    if rules.drop_words != "off":
        dropped = _DROPPED[rules.drop_words]
        text = " ".join(word for word in text.split() if word not in dropped) or text
        yield "articles" if dropped is ARTICLES else "function_words", text
    if rules.lemma != "off":
        text = " ".join(_lemma(word, rules.lemma, rules.guess_lemmas) for word in text.split())
        yield "lemma", text


def _canonical(name: str, rules: NameRules) -> str:
    *_, (_, text) = name_steps(name, rules)
    return text


_cached = lru_cache(CACHED_NAMES)(_canonical)


def _unicode(text: str) -> str:
    if text.isascii():
        return text
    plain = unicodedata.normalize("NFKC", text).replace("\u2019", "'")
    return " ".join("".join(c for c in plain if unicodedata.category(c) != "Cf").split())


def _without_parentheses(text: str) -> str:
    """Text outside of closed parentheses; one pass, however they nest."""
    if "(" not in text:
        return text
    kept: list[str] = []
    opened: list[int] = []  # lengths of `kept` at the parentheses that are still open
    for piece in re.split(r"([()])", text):
        if piece == "(":
            opened.append(len(kept))
        if piece == ")" and opened:
            del kept[opened.pop() :]
            kept.append(" ")
        else:
            kept.append(piece)
    return " ".join("".join(kept).split())


def _words(text: str) -> str:
    if text.isascii():
        return " ".join(_WORD.findall(text))
    # vowel signs and accents that stand alone are no letters to `re`, but a word without them is another word
    spaced = "".join(c if c.isalnum() or c == "'" or unicodedata.category(c)[0] == "M" else " " for c in text)
    return " ".join(word for word in _MARKED_WORD.findall(spaced) if any(c.isalnum() for c in word))


@lru_cache(CACHED_NAMES)
def _lemma(word: str, lemma: Lemma, guess: bool) -> str:
    """The first of its lemmas, as the first part of speech that knows the word; the word itself where none does, and
    where it is a base form: actions are seldom named in the past tense, so that to saw is not what somebody saw.
    """
    if not word.isalpha() or len(word) > LONGEST_WORD:
        return word
    for part in _PARTS[lemma]:
        lemmas = lemminflect.getLemma(word, upos=part, lemmatize_oov=False)
        if lemmas:
            return word if word in lemmas else str(lemmas[0])
    if guess and _INFLECTED.search(word):
        lemmas = lemminflect.getLemma(word, upos=_PARTS[lemma][0])
        return str(lemmas[0]) if lemmas else word
    return word
