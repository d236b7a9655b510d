"""Synthetic records of a description bank, with what is planted in them known row by row.

Words follow Zipf's law over a vocabulary of made-up words, the frequent ones short; a quarter of a text's words are of
its action. Texts have 10 to 30 words, as ActionHub's do. Actions get their rows by Zipf's law too: the first of 1,211
has 13 % of them. Every fifth row repeats an earlier text of its action, to the letter or changed; one in twenty is a
cousin, which shares two thirds of its words with an earlier one and must be kept; one in fifty is noise.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

ACTIONS = 1211
VOCABULARY = 40_000
DIMENSIONS = 300
TOPIC_WORDS, TOPIC_SHARE = 60, 0.25
FEWEST_WORDS, MOST_WORDS = 10, 30
BLOCK_ROWS = 50_000
REMEMBERED = 40  # texts of an action from which a later one can be made
KINDS: tuple[str, ...] = ("new", "exact", "case", "punctuation", "swap", "replaced", "cousin", "markup")
KINDS += ("encoding", "not_json", "missing_text", "unknown_action", "empty")
SHARES = (0.73, 0.06, 0.035, 0.035, 0.035, 0.035, 0.05, 0.008, 0.003, 0.003, 0.002, 0.002, 0.002)
DUPLICATES = KINDS[1:6]
FAILED = KINDS[8:]
_VERBS = (
    "bend break brush build carry carve catch chop clean climb clip cook cover cut dig drag draw drop dry fill fix "
    "fold grab hammer hang hold kick lift mix move open paint peel pour press pull push roll scrub shake"
)
_NOUNS = (
    "apple ball barrel basket bench blanket bottle box bread brick broom bucket button cable carpet chain chair clay "
    "cloth crate curtain door drum fence flag fork gate glove guitar hat helmet"
)
_SYLLABLES = [a + b for a, b in product("bdfghklmnprstvz", "aeiou")]


@dataclass(frozen=True, slots=True)
class Written:
    """A file of records and what is in it."""

    records: Path
    labels: Path
    kinds: NDArray[np.uint8]
    """(rows,) index into `KINDS` of every record."""


def write_records(folder: Path, rows: int, seed: int = 0) -> Written:
    """Write records.jsonl and labels.txt of so many rows; memory does not grow with them, but for one byte each."""
    folder.mkdir(parents=True, exist_ok=True)
    labels = [f"{verb} {noun}" for verb, noun in product(_VERBS.split(), _NOUNS.split())][:ACTIONS]
    (folder / "labels.txt").write_text("".join(f"{label}\n" for label in labels))
    world = _World(labels, np.random.default_rng(seed))
    kinds: list[NDArray[np.uint8]] = []
    with (folder / "records.jsonl").open("wb") as file:
        for first in range(0, rows, BLOCK_ROWS):
            made, lines = world.block(min(BLOCK_ROWS, rows - first))
            kinds.append(made)
            file.writelines(lines)
    return Written(folder / "records.jsonl", folder / "labels.txt", np.concatenate(kinds))


def write_vectors(folder: Path, seed: int = 0) -> Path:
    """Write a word2vec file, binary, with a random vector for every word of the records and of the labels."""
    words = sorted({_word(number) for number in range(VOCABULARY)} | set(_VERBS.split()) | set(_NOUNS.split()))
    vectors = np.random.default_rng(seed).standard_normal((len(words), DIMENSIONS)).astype("<f4")
    path = folder / "vectors.bin"
    with path.open("wb") as file:
        file.write(f"{len(words)} {DIMENSIONS}\n".encode())
        for word, vector in zip(words, vectors, strict=True):
            file.write(word.encode() + b" " + vector.tobytes() + b"\n")
    return path


def _word(number: int) -> str:
    """The shortest words come first: one syllable for 75 of them, two for 5,625 more."""
    text = ""
    number += 1
    while number > 0:
        number, place = divmod(number - 1, len(_SYLLABLES))
        text = _SYLLABLES[place] + text
    return text


class _World:
    """Draws texts; what it has told before, it can tell again."""

    def __init__(self, labels: list[str], draw: np.random.Generator) -> None:
        self._labels, self._draw = labels, draw
        self._words = [_word(number) for number in range(VOCABULARY)]
        self._common = _zipf(VOCABULARY)
        self._topics = np.stack([draw.choice(VOCABULARY, TOPIC_WORDS, replace=False) for _ in labels])
        self._told: list[list[list[str]]] = [[] for _ in labels]

    def block(self, rows: int) -> tuple[NDArray[np.uint8], Iterator[bytes]]:
        """(rows,) kinds and the lines of the next records."""
        draw = self._draw
        actions = np.searchsorted(_zipf(len(self._labels)), draw.random(rows))
        kinds = draw.choice(len(KINDS), rows, p=SHARES).astype(np.uint8)
        sizes = draw.integers(FEWEST_WORDS, MOST_WORDS + 1, rows)
        total = int(sizes.sum())
        topical = self._topics[np.repeat(actions, sizes), np.searchsorted(_zipf(TOPIC_WORDS), draw.random(total))]
        common = np.searchsorted(self._common, draw.random(total))
        chosen = np.where(draw.random(total) < TOPIC_SHARE, topical, common).tolist()
        ends, lines = np.cumsum(sizes).tolist(), []
        for row, (action, end, size) in enumerate(zip(actions.tolist(), ends, sizes.tolist(), strict=True)):
            words = [self._words[number] for number in chosen[end - size : end]]
            told = self._told[action]
            kind = KINDS[kinds[row]]
            if kind in (*DUPLICATES, "cousin"):
                if not told:
                    kind = "new"
                    kinds[row] = 0
                else:
                    words = self._changed(kind, list(told[int(draw.integers(len(told)))]), words)
            if kind in ("new", "cousin", "markup"):
                # some of the early ones stay for ever, others are forgotten: repeats near and far
                if len(told) < REMEMBERED:
                    told.append(words)
                else:
                    told[int(draw.integers(REMEMBERED // 2, REMEMBERED))] = words
            lines.append(_line(kind, self._labels[action], words, row))
        return kinds, iter(lines)

    def _changed(self, kind: str, words: list[str], other: list[str]) -> list[str]:
        draw, size = self._draw, len(words)
        match kind:
            case "swap":
                first, second = draw.choice(size, 2, replace=False).tolist()
                words[first], words[second] = words[second], words[first]
            case "replaced":
                words[int(draw.integers(size))] = self._words[int(draw.integers(VOCABULARY))]
            case "cousin":
                for place, word in zip(draw.choice(size, -(-size // 4), replace=False).tolist(), other, strict=False):
                    words[place] = word
        return words


def _zipf(count: int) -> NDArray[np.float64]:
    """(count,) cumulative chances of ranks 1, 2, … by Zipf's law."""
    weights = 1 / np.arange(1, count + 1)
    return np.cumsum(weights / weights.sum())


def _line(kind: str, action: str, words: list[str], row: int) -> bytes:
    text = " ".join(words).capitalize() + "."
    match kind:
        case "case":
            text = text.upper() if row % 2 else text.title()
        case "punctuation":
            text = " ".join([f"{words[0]},", *words[1:-1], f"- {words[-1]}!"])
        case "markup":
            text = f"<p>{text.replace(' ', '&nbsp;', 2)}</p>  <br/>"
        case "empty":
            text = "<br/> &nbsp;"
        case "unknown_action":
            action = f"unheard of {row % 97}"
    record: dict[str, object] = {"action": action, "text": text, "source": f"site {row % 7}"}
    if kind == "missing_text":
        del record["text"]
    line = json.dumps(record).encode() + b"\n"
    if kind == "encoding":
        return line.replace(b'"text": "', b'"text": "\xff\xfe')
    return line[: len(line) // 2] + b"\n" if kind == "not_json" else line
