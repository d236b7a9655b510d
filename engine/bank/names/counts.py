"""How many distinct actions a list of names comes to: after each rule, and under each choice of rules."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import get_args

from .actions import DropWords, Lemma, NameRules, Parentheses, canonical_name, name_steps


@dataclass(frozen=True, kw_only=True, slots=True)
class DistinctCount:
    """Distinct actions under one choice of rules, with the text in parentheses and without it."""

    drop_words: DropWords
    lemma: Lemma
    kept: int
    dropped: int


def distinct_per_step(names: Iterable[str], rules: NameRules) -> list[tuple[str, int]]:
    """(rule, distinct names after it) in the order of the rules; first ("exact", distinct spellings)."""
    spellings = set(names)
    after: dict[str, set[str]] = {}
    for name in spellings:
        for rule, text in name_steps(name, rules):
            after.setdefault(rule, set()).add(text)
    return [("exact", len(spellings)), *((rule, len(texts)) for rule, texts in after.items())]


def distinct_counts(names: Iterable[str], rules: NameRules) -> list[DistinctCount]:
    """Every choice of words to drop and of lemmas, the other rules as they are in `rules`, lower_case among them."""
    spellings = set(names)

    def distinct(drop: DropWords, lemma: Lemma, parentheses: Parentheses) -> int:
        guess = rules.guess_lemmas and lemma != "off"
        chosen = replace(rules, drop_words=drop, lemma=lemma, guess_lemmas=guess, parentheses=parentheses)
        return len({canonical_name(name, chosen) for name in spellings})

    return [
        DistinctCount(
            drop_words=drop,
            lemma=lemma,
            kept=distinct(drop, lemma, "keep"),
            dropped=distinct(drop, lemma, "drop"),
        )
        for drop in get_args(DropWords)
        for lemma in get_args(Lemma)
    ]
