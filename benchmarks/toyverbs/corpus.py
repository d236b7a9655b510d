"""The toyverbs world as files: H.264 videos, a manifest, class lists and the input of a description bank."""

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ...shards.errors import UsageError
from .encode import encode, turn_upright
from .texts import base_labels, caption, descriptions, label, novel_labels
from .world import BASE_VERBS, NOUNS, NOVEL_VERBS, VERBS, render

FRAMES = 36
SIDE, WIDE = 64, 86  # pixels
_SIDEWAYS_EVERY, _WIDE_EVERY = 67, 53  # videos
_TRAIN_SHARE, _BASE_TEST_SHARE = 0.65, 0.2
_COLUMNS = ("path", "id", "label", "split", "caption")
_THREADS = 2


@dataclass(frozen=True, slots=True)
class Corpus:
    """Where the parts of a written corpus are."""

    manifest: Path
    """manifest.csv: path, id, label, split (train, test), caption; paths are relative to it."""
    descriptions: Path
    """descriptions.jsonl: action, text, source."""
    labels: Path
    """labels.txt: all 96 classes."""
    base: Path
    """base.txt: the 64 classes of the train split."""
    novel: Path
    """novel.txt: the 32 classes that only the test split has."""
    videos: int
    """Good videos among the rows of the manifest, each counted once."""


_Row = tuple[str, str, str, str, str]


@dataclass(frozen=True, slots=True)
class _Video:
    name: str
    verb: str
    noun: str
    split: str
    seed: tuple[int, int]
    width: int
    sideways: bool


def write_corpus(
    folder: str | Path, *, videos: int = 1280, seed: int = 0, progress: Callable[[int], object] | None = None
) -> Corpus:
    """Render and encode a corpus; the same videos and seed give the same bytes.

    65 % of the videos are the train split, of base classes only; 20 % are test videos of base classes and 15 % of
    novel ones. Classes take turns, and no video shares its seed with another.

    Real corpora are not clean, so some of this one is not: every 67th video is stored sideways with a display matrix
    that turns it upright, every 53rd is 86 pixels wide instead of 64, and two rows come on top of `videos`:
    `duplicate`, a copy of the first video, and `damaged`, the first half of one.

    Args:
        folder: to write to; new or empty.
        videos: how many to render, at least 8.
        seed: of every video, >= 0.
        progress: called with 1 after each video, from this thread.

    Raises:
        UsageError: too few videos, a negative seed, or the folder holds something.
    """
    folder = Path(folder)
    if videos < 8 or seed < 0:
        raise UsageError(f"a corpus must have videos >= 8 and seed >= 0, got {videos} and {seed}")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"the corpus folder must be new or empty, but {folder} holds something")
    (folder / "videos").mkdir(parents=True)
    rows = []
    # Rendering and encoding spend their time outside the interpreter lock: threads do, and need no start-up.
    with ThreadPoolExecutor(_THREADS) as pool:
        for video, text in pool.map(lambda video: _write_video(folder, video), _plan(videos, seed)):
            rows.append((_path(video.name), video.name, label(video.verb, video.noun), video.split, text))
            if progress is not None:
                progress(1)
    rows += _write_faults(folder, rows)
    return _write_tables(folder, rows, videos)


def _plan(videos: int, seed: int) -> Iterator[_Video]:
    train, base_test = int(videos * _TRAIN_SHARE), int(videos * _BASE_TEST_SHARE)
    parts = (
        ("train", BASE_VERBS, train),
        ("test", BASE_VERBS, base_test),
        ("test", NOVEL_VERBS, videos - train - base_test),
    )
    number = 0
    for split, verbs, count in parts:
        for i in range(count):
            number += 1
            yield _Video(
                name=f"{number:06d}",
                verb=verbs[i % len(verbs)],
                noun=NOUNS[(i // len(verbs) + i) % len(NOUNS)],
                split=split,
                seed=(seed, number),
                width=WIDE if number % _WIDE_EVERY == 0 else SIDE,
                sideways=number % _SIDEWAYS_EVERY == 0,
            )


def _path(name: str) -> str:
    return f"videos/{name}.mp4"


def _write_video(folder: Path, video: _Video) -> tuple[_Video, str]:
    clip = render(video.verb, video.noun, seed=video.seed, frames=FRAMES, height=SIDE, width=video.width)
    frames_THWC = np.rot90(clip.frames_THWC, axes=(1, 2)) if video.sideways else clip.frames_THWC
    data = encode(frames_THWC)
    (folder / _path(video.name)).write_bytes(turn_upright(data) if video.sideways else data)
    return video, caption(clip)


def _write_faults(folder: Path, rows: Sequence[_Row]) -> list[_Row]:
    first = (folder / rows[0][0]).read_bytes()
    (folder / _path("duplicate")).write_bytes(first)
    (folder / _path("damaged")).write_bytes(first[: len(first) // 2])
    return [(_path(name), name, *rows[0][2:]) for name in ("duplicate", "damaged")]


def _write_tables(folder: Path, rows: Sequence[_Row], videos: int) -> Corpus:
    corpus = Corpus(
        manifest=folder / "manifest.csv",
        descriptions=folder / "descriptions.jsonl",
        labels=folder / "labels.txt",
        base=folder / "base.txt",
        novel=folder / "novel.txt",
        videos=videos,
    )
    with corpus.manifest.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_COLUMNS)
        writer.writerows(rows)
    lines = [json.dumps(asdict(line)) for verb in VERBS for noun in NOUNS for line in descriptions(verb, noun)]
    _write_lines(corpus.descriptions, lines)
    _write_lines(corpus.labels, (*base_labels(), *novel_labels()))
    _write_lines(corpus.base, base_labels())
    _write_lines(corpus.novel, novel_labels())
    return corpus


def _write_lines(path: Path, lines: Sequence[str]) -> None:
    path.write_text("".join(line + "\n" for line in lines), "utf-8")
