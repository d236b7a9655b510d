"""A label → verb with its particle, object, and the template that joins them again (ACE's a = v ⊕ o).

Rules, in their order:
1. CamelCase and underscores become words, lower case; what stands in parentheses counts as words, but examples
   ("e.g., a door") go; of alternatives ("cup/glass/bottle", "catching or throwing") the first stays.
2. A subject goes ("someone is dressing" → dress).
3. A first word that can be a verb is the verb, in its base form, unless the label is a compound: a name in which a
   later word carries the action ("belly dancing", "table tennis shot"). A compound, and a name without a verb
   ("archery"), is kept whole as the verb, with an empty object: splitting it would put synonyms where none fit.
4. A particle belongs to the verb, beside it or after the object: "pick up leg", "picking something up".
5. A preposition goes to the template: "jump into pool" → jump, pool, "{verb} into {object}".
6. Articles and possessives before the object go.

The rules know no grammar beyond that; a person overrides them with a table of label, verb, object and template.
"""

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import lemminflect

from ....shards.bank.texts import VerbObject, template_fits
from ....shards.errors import UsageError
from ...sources.records import read_records

PLAIN = "{verb} {object}"
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_EXAMPLES = re.compile(r"\(\s*e\.g\.[^)]*\)")
_SPACE = re.compile(r"[\s_+()\[\],;:.]+")
_SUBJECTS = frozenset({"someone", "somebody", "person", "people", "man", "woman", "they", "he", "she"})
_BE = frozenset({"is", "are", "be", "being"})
_DETERMINERS = frozenset({"a", "an", "the", "some", "their", "his", "her", "its", "your", "my"})
_PARTICLES = frozenset({"up", "down", "out", "off", "away", "back", "together", "apart"})
_PREPOSITIONS = frozenset(
    {
        *("in", "on", "at", "to", "into", "onto", "from", "with", "of", "for", "through", "over", "under", "around"),
        *("against", "across", "along", "by", "behind", "next", "outside", "inside", "like", "as", "towards"),
    }
)
# words that are prepositions after most verbs and particles after these
_PHRASAL = frozenset(
    {
        *("put on", "try on", "turn on", "switch on", "carry on", "lean in", "plug in", "fill in", "hand over"),
        *("turn over", "roll over", "knock over", "tip over", "fall over", "turn around", "look around", "pass by"),
        *("blow dry", "shadow box"),
    }
)
_AFTER_OBJECT = frozenset({"up", "down", "out", "off", "away", "apart", "together", "over"})
_BASES = {"dying": "dye"}  # where the dictionary takes another verb
# first words that could be verbs but name a thing here
_COMPOUNDS = frozenset(
    {
        *("arm wrestling", "balance beam", "band marching", "bench press", "body weight squats", "cliff diving"),
        *("field hockey penalty", "floor gymnastics", "front crawl", "front raises", "garbage collecting"),
        *("golf swing", "hammer throw", "handstand walking", "head massage", "hockey stop", "horse race"),
        *("horse riding", "hula hoop", "parallel bars", "pole vault", "pommel horse", "side kick", "soccer juggling"),
        *("still rings", "sword exercise", "sword", "table tennis shot", "trampoline jumping", "wall pushups"),
        *("drop kicking", "rock climbing", "rock scissors paper", "sign language interpreting", "water sliding"),
        *("sword fighting", "martial art", "sled dog racing", "baby waking up", "air drumming", "bee keeping"),
        *("clean and jerk", "snatch weight lifting", "contact juggling", "trick shot", "hand shake", "hand wave"),
        *("hand clap", "rock climbing indoor", "rope climbing", "water skiing", "ice fishing", "news anchoring"),
        *("breast stroke", "long jump", "triple jump", "jumping jack", "jump rope", "pull ups", "push ups", "shot put"),
        *("skate boarding", "golf chipping", "golf driving", "golf putting", "robot dancing", "swing dancing"),
    }
)


@cache
def split_label(label: str) -> VerbObject:
    """Take a label apart by the rules of this module.

    Args:
        label: an action's name in any of the usual spellings, not empty.

    Returns:
        Verb and object in lower case; the object is empty for a verb alone and for a compound.
    """
    words = _words(label)
    if not words:
        return VerbObject(label.strip().lower() or label, "", "{verb}")
    name = " ".join(words)
    if name in _COMPOUNDS or _is_compound(words):
        return VerbObject(name, "", "{verb}")
    return _split(words)


def _words(label: str) -> list[str]:
    words = [word for word in _SPACE.split(_CAMEL.sub(" ", _EXAMPLES.sub(" ", label)).lower()) if word.strip("-'\"")]
    words = [word.split("/")[0] or word.strip("/") for word in words]
    while len(words) > 1 and (words[0] in _SUBJECTS or words[0] in _BE):
        words = words[1:]
    return words


def _is_compound(words: list[str]) -> bool:
    """Whether the action is not in the first word: that is no verb, or a later one ends in -ing and it does not."""
    if not _base(words[0]):
        return True
    if words[0].endswith("ing") or len(words) == 1:
        return False
    return words[-1].endswith("ing") and bool(_base(words[-1]))


def _split(words: list[str]) -> VerbObject:
    verb, rest = _base(words[0]), words[1:]
    if rest[:1] == ["or"]:
        rest = rest[2:]
    if (
        rest != ["back"]
        and rest
        and (rest[0] in _PARTICLES or f"{verb} {rest[0]}" in _PHRASAL or rest == ["on"] or rest == ["in"])
    ):
        verb, rest = f"{verb} {rest[0]}", rest[1:]
    template = PLAIN
    if rest and rest[0] in _PREPOSITIONS:
        count = 2 if " ".join(rest[:2]) in ("next to", "outside of", "inside of") else 1
        template, rest = f"{{verb}} {' '.join(rest[:count])} {{object}}", rest[count:]
    elif len(rest) > 1 and rest[-1] in _AFTER_OBJECT and " " not in verb:
        verb, rest = f"{verb} {rest[-1]}", rest[:-1]
    while rest and rest[0] in _DETERMINERS:
        rest = rest[1:]
    if not rest:
        loose = template.removeprefix("{verb}").removesuffix("{object}").strip()
        return VerbObject(f"{verb} {loose}".strip(), "", "{verb}")
    return VerbObject(verb, " ".join(rest), template)


@cache
def _base(word: str) -> str:
    """The base form of a word that can be a verb, "" for another: playing → play. Hyphens are let be."""
    if word in _BASES:
        return _BASES[word]
    lemmas = lemminflect.getLemma(word, upos="VERB", lemmatize_oov=False)
    if word in lemmas:
        return word  # labels are in the present: saw wood, lay bricks
    return str(lemmas[0]) if lemmas else ""


def read_verb_objects_file(path: Path) -> dict[str, VerbObject]:
    """A person's own splits: csv, tsv, jsonl or parquet with columns label, verb and optional object, template.

    Returns:
        Label, as written → its parts. Without a template the two are joined by a space.

    Raises:
        UsageError: a row lacks its label or verb, names a label twice, or has a template that does not fit.
    """
    found: dict[str, VerbObject] = {}
    for number, record in enumerate(read_records(path), 1):
        label, verb = record.get("label"), record.get("verb")
        if not isinstance(label, str) or not isinstance(verb, str) or not label.strip() or not verb.strip():
            raise UsageError(f"{path}: row {number} must have text columns `label` and `verb`, got {record!r:.200}")
        thing = str(record.get("object") or "").strip()
        template = str(record.get("template") or (PLAIN if thing else "{verb}"))
        if not template_fits(template, thing):
            want = "{verb} once and {object} once" if thing else "{verb} once and no {object}, as it has no object"
            raise UsageError(f"{path}: row {number}: the template of {label!r} must hold {want}, got {template!r}")
        if label.strip() in found:
            raise UsageError(f"{path}: row {number}: every label must stand once, got {label!r} twice")
        found[label.strip()] = VerbObject(verb.strip(), thing, template)
    return found


def take_apart(names: tuple[str, ...], overrides: Mapping[str, VerbObject]) -> VerbObject:
    """An action by its names, its own first: a person's split of any of them, else that of the first by the rules."""
    return next((overrides[name] for name in names if name in overrides), None) or split_label(names[0])
