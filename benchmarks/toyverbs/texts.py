"""What is said about the toyverbs: labels, synonyms, captions and a bank of descriptions.

Descriptions tell what can be seen in a single frame ("a small ball at the top left"), in words shared by all actions.
A verb that was never trained on is so described by words that were.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np

from .world import BASE_VERBS, NOUNS, NOVEL_VERBS, VERBS, Clip, path

SIZES = ("small", "medium", "large")
_ROWS = ("top", "middle", "bottom")
_COLUMNS = ("left", "center", "right")

SYNONYMS: dict[str, tuple[str, ...]] = {
    "push": ("shove", "thrust", "nudge", "impel", "drive"),
    "pull": ("drag", "tug", "haul", "draw", "tow"),
    "lift": ("raise", "hoist", "elevate", "heave", "boost"),
    "grow": ("expand", "inflate", "swell", "enlarge", "widen"),
    "shake": ("rattle", "wobble", "jiggle", "vibrate", "tremble"),
    "circle": ("orbit", "revolve", "loop", "rotate", "whirl"),
    "slide": ("glide", "skid", "slip", "coast", "skim"),
    "press": ("squash", "flatten", "crush", "squeeze", "pound"),
    "drop": ("lower", "release", "dump", "sink", "plunge"),
    "shrink": ("deflate", "contract", "reduce", "narrow", "compress"),
    "bounce": ("hop", "spring", "bob", "rebound", "jump"),
    "throw": ("toss", "hurl", "fling", "lob", "pitch"),
}

_STATES = (
    "the {noun} is at the {place}",
    "a {size} {noun} at the {place}",
    "there is a {size} {noun} at the {place}",
    "a {noun} is seen at the {place} and it is {size}",
    "the {size} {noun} is now at the {place}",
    "at the {place} there is a {size} {noun}",
    "we see a {size} {noun} at the {place}",
    "the {noun} looks {size} at the {place}",
)
_MOVES = "the {noun} goes from the {start} to the {end}"
_STAYS = "the {noun} stays at the {start}"
_RESIZES = "a {before} {noun} and then a {after} {noun}"
_NAMING = "someone wants to {synonym} the {noun}"
_SETTINGS = {"field": "in a field", "room": "in a room", "water": "on the water", "night": "at night"}
_CHATTER = (
    "subscribe for more videos like this one",
    "we stayed in a lovely hotel near the station",
    "click <b>here</b> for the full list of prices",
    "my favourite recipe for soup takes an hour",
    "https://example.org/watch?v=41",
    "great weather for the whole week",
)
_SHORTEST_VISIT = 0.06  # share of the motion below which a state is only passed through

State = tuple[str, str]  # size, place


@dataclass(frozen=True, slots=True)
class Description:
    """One line of the bank's input."""

    action: str
    text: str
    source: str
    """"states" (frame by frame), "motion" (over time), "naming" (by a synonym) or "web" (noise)."""


def label(verb: str, noun: str) -> str:
    """The class name, "push ball"."""
    return f"{verb} {noun}"


def base_labels() -> tuple[str, ...]:
    """The 64 classes of the base verbs, verb by verb."""
    return tuple(label(verb, noun) for verb in BASE_VERBS for noun in NOUNS)


def novel_labels() -> tuple[str, ...]:
    """The 32 classes of the novel verbs, verb by verb."""
    return tuple(label(verb, noun) for verb in NOVEL_VERBS for noun in NOUNS)


def state(x: float, y: float, size: float) -> State:
    """The words for a place and a size, each in thirds of [0, 1]."""
    row, column = _ROWS[_third(y)], _COLUMNS[_third(x)]
    place = {("middle", "center"): "center"}.get((row, column))
    if place is None:
        place = " ".join(word for word in (row, column) if word not in ("middle", "center"))
    return SIZES[_third(size)], place


def _third(value: float) -> int:
    return min(2, max(0, int(value * 3)))


@cache
def states(verb: str) -> tuple[State, ...]:
    """The states that the verb's path stays in, in the order of their first visit."""
    x_T, y_T, size_T = path(verb, np.linspace(0, 1, 301, dtype=np.float32))
    seen = [state(*point) for point in zip(x_T.tolist(), y_T.tolist(), size_T.tolist(), strict=True)]
    kept = [found for found in dict.fromkeys(seen) if seen.count(found) >= _SHORTEST_VISIT * len(seen)]
    return tuple(kept)


def caption(clip: Clip) -> str:
    """What can be seen at the start, in the middle and at the end of this very clip."""
    points = [0, len(clip.x_T) // 2, -1]
    seen = [state(float(clip.x_T[i]), float(clip.y_T[i]), float(clip.size_T[i])) for i in points]
    told = [f"a {size} {clip.noun} at the {place}" for size, place in dict.fromkeys(seen)]
    return f"{', then '.join(told)}, {_SETTINGS[clip.scene]}"


def descriptions(verb: str, noun: str) -> Iterator[Description]:
    """Every line of the bank's input about one action; the noise is the same in every run."""
    action = label(verb, noun)
    visited = states(verb)
    told = [line.format(noun=noun, size=size, place=place) for size, place in visited for line in _STATES]
    for text in dict.fromkeys(told):  # not every line names the size
        yield Description(action, text, "states")
    (before, start), (after, end) = visited[0], visited[-1]
    moves = (_MOVES if start != end else _STAYS).format(noun=noun, start=start, end=end)
    yield Description(action, moves, "motion")
    if before != after:
        yield Description(action, _RESIZES.format(noun=noun, before=before, after=after), "motion")
    place_in_list = VERBS.index(verb) * len(NOUNS) + NOUNS.index(noun)
    synonym = SYNONYMS[verb][place_in_list % len(SYNONYMS[verb])]
    yield Description(action, _NAMING.format(noun=noun, synonym=synonym), "naming")
    yield Description(action, _CHATTER[place_in_list % len(_CHATTER)], "web")
