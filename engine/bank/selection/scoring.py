"""The tasks of `bank select` before anything is chosen: the words of a bank, their vectors, the score of every text.

Texts are read from the memory-mapped files, in pieces of one part each; every piece leaves its scores as a file, so a
killed job does none of them twice.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ....shards.bank.files import BankRecord
from ....shards.errors import DamageError, UsageError
from ....shards.files import atomic_file, sha256_of
from ...cluster import Effort
from ..rows import text_batches
from ..scratch import Scratch
from ..texts.clip_text import Embed, count_tokens, open_clip_texts
from .relevance import Ints, MeanVectors, Vectors, cosines, count_words, split_words, units
from .vectors import keep_vectors

MAX_WORDS = 2_000_000
"""Different words that are looked up: the most frequent ones of a bank that has more."""
TOKENS = 75
"""What a text tower of CLIP reads of a text, beside start and end."""
COUNTS = pa.schema([("word", pa.string()), ("count", pa.int64())])
_NAMES, _STARTS, _KNOWN, _VECTORS = "names.npy", "starts.npy", "known.arrow", "vectors.f32"


@dataclass(frozen=True, slots=True)
class Tower:
    """A text tower."""

    model: str
    weights: str
    """Path of the file."""
    changed_ns: int
    """When the file was last written: a worker keeps the tower of one file only."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Some descriptions that follow each other."""

    number: int
    texts: str
    """Absolute path of the part's Arrow file."""
    first: int
    """First row in the part."""
    row: int
    """The same, counted through the parts."""
    rows: int


def pieces_of(bank: Path, record: BankRecord, rows: int) -> list[Piece]:
    """The descriptions of a bank in pieces of at most so many rows."""
    pieces: list[Piece] = []
    before = 0
    for part in record.parts:
        for first in range(0, part.rows, rows):
            path = str((bank / part.texts).absolute())
            pieces.append(Piece(len(pieces), path, first, before + first, min(rows, part.rows - first)))
        before += part.rows
    return pieces


def count_piece(out: Path, piece: Piece) -> Effort:
    """Count the words of a piece: a task."""
    work, counts = Scratch(out), COUNTS.empty_table()
    for texts in text_batches(Path(piece.texts), piece.first, piece.rows):
        words, times = count_words(split_words(texts))
        counts = _summed([counts, pa.table([words, times], schema=COUNTS)])
    _write_arrow(work.path("words", piece.number, ".arrow"), counts)
    work.write_note("words", piece.number, {"words": len(counts)})
    return Effort(piece.rows, piece.rows)


def find_vectors(out: Path, path: Path, pieces: int, names: Sequence[str], starts: Sequence[int]) -> Effort:
    """Look up the vectors of the bank's words, and make those of its actions' names: a task.

    Args:
        out: the folder that the job makes.
        path: the file of word vectors.
        pieces: how many counted their words.
        names: of the actions.
        starts: first row of each.

    Raises:
        UsageError: the file of vectors does not read.
    """
    work = Scratch(out)
    counts = COUNTS.empty_table()
    for number in range(pieces):
        counts = _summed([counts, _read_arrow(work.path("words", number, ".arrow"))])
        if len(counts) > 4 * MAX_WORDS:  # rare words of a bank without end may be forgotten
            counts = _frequent(counts, 4 * MAX_WORDS)
    in_names = split_words(pa.array(names, pa.string())).of_T.dictionary.to_pylist()
    wanted = {*_frequent(counts, MAX_WORDS).column("word").to_pylist(), *in_names} - {""}
    with atomic_file(work.folder / _VECTORS) as kept:
        found = keep_vectors(path, wanted, kept)
    if not found.rows:
        raise UsageError(f"vectors {path} must have at least one word of the bank, got none in {found.entries} words")
    known = pa.array(sorted(found.rows), pa.string())
    rows = pa.array([found.rows[word] for word in known.to_pylist()], pa.int64())
    _write_arrow(work.folder / _KNOWN, pa.table({"word": known, "row": rows}))
    write_names(work, units(_mean_vectors(work, found.dimensions)(pa.array(names, pa.string()))), starts)
    is_known = counts.filter(pc.is_in(counts.column("word"), value_set=known))
    note = {"format": found.format, "dimensions": found.dimensions, "entries": found.entries, "sha256": sha256_of(path)}
    note |= {"words": len(counts), "words_known": len(is_known)}
    note |= {name: pc.sum(t.column("count")).as_py() or 0 for name, t in (("met", counts), ("met_known", is_known))}
    work.write_note("vectors", 0, note)
    return Effort(1, 1, path.stat().st_size)


def write_names(work: Scratch, names_AD: NDArray[np.float64], starts: Sequence[int]) -> None:
    """Keep the unit vectors of the actions' names, and the first row of each action."""
    for name, array in ((_NAMES, names_AD), (_STARTS, np.array(starts, np.int64))):
        with atomic_file(work.folder / name) as file:
            np.save(file, array)


def embed_names(out: Path, tower: Tower, names: Sequence[str], starts: Sequence[int]) -> Effort:
    """Make the vectors of the actions' names by a text tower: a task."""
    work = Scratch(out)
    vectors_AD = _embed(tower, names)
    write_names(work, units(vectors_AD), starts)
    work.write_note("vectors", 0, {"sha256": sha256_of(Path(tower.weights)), "dimensions": vectors_AD.shape[1]})
    return Effort(1, 1)


def score_piece(out: Path, piece: Piece, tower: Tower | None) -> Effort:
    """Score the texts of a piece: a task."""
    work = Scratch(out)
    names_AD = np.load(work.folder / _NAMES, mmap_mode="r")
    starts_A: Ints = np.load(work.folder / _STARTS)
    scores, row, cut = [np.empty(0, np.float32)], piece.row, 0
    for texts in text_batches(Path(piece.texts), piece.first, piece.rows):
        # of actions without descriptions, which begin at the same row, the last is the one that has it
        actions_N = np.searchsorted(starts_A, np.arange(row, row + len(texts)), side="right") - 1
        if tower is None:
            scores.append(cosines(_mean_vectors(work, names_AD.shape[1])(texts), actions_N, names_AD))
        else:
            words = texts.to_pylist()
            cut += sum(count_tokens(text) > TOKENS for text in words)
            scores.append(cosines(_embed(tower, words), actions_N, names_AD))
        row += len(texts)
    with atomic_file(work.path("scores", piece.number, ".npy")) as file:
        np.save(file, np.concatenate(scores))
    work.write_note("scores", piece.number, {"rows": piece.rows, "cut": cut})
    return Effort(piece.rows, piece.rows)


def read_scores(work: Scratch, pieces: Sequence[Piece], first: int, end: int) -> Vectors:
    """(end - first,) scores of rows counted through the parts."""
    found = [np.empty(0, np.float32)]
    for piece in pieces:
        begin, stop = max(first, piece.row), min(end, piece.row + piece.rows)
        if begin < stop:
            scores = np.load(work.path("scores", piece.number, ".npy"))
            if scores.shape != (piece.rows,):
                raise DamageError(f"scores of piece {piece.number} must be {piece.rows}, got {scores.shape}")
            found.append(scores[begin - piece.row : stop - piece.row])
    return np.concatenate(found)


@lru_cache(maxsize=1)
def _tower(tower: Tower) -> Embed:
    return open_clip_texts(tower.model, Path(tower.weights))


def _embed(tower: Tower, texts: Sequence[str]) -> NDArray[np.float64]:
    """(N, D) on one thread: more of them add up in another order."""
    import torch

    embed, threads = _tower(tower), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return embed(texts)
    finally:
        torch.set_num_threads(threads)


def _mean_vectors(work: Scratch, dimensions: int) -> MeanVectors:
    known = _read_arrow(work.folder / _KNOWN)
    vectors = np.memmap(work.folder / _VECTORS, "<f4", "r").reshape(-1, dimensions)
    words = known.column("word").combine_chunks()
    return MeanVectors(words, known.column("row").to_numpy(), vectors)


def _summed(tables: Sequence[pa.Table]) -> pa.Table:
    """Words with their counts, each word once, the empty one left out."""
    grouped = pa.concat_tables(tables).group_by("word", use_threads=False).aggregate([("count", "sum")])
    table = grouped.select(["word", "count_sum"]).rename_columns(COUNTS.names)
    return table.filter(pc.not_equal(table.column("word"), ""))


def _frequent(counts: pa.Table, most: int) -> pa.Table:
    order = pc.sort_indices(counts, [("count", "descending"), ("word", "ascending")])
    return counts.take(order[:most])


def _write_arrow(path: Path, table: pa.Table) -> None:
    with atomic_file(path) as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)


def _read_arrow(path: Path) -> pa.Table:
    with pa.memory_map(str(path)) as mapped:
        return pa.ipc.open_file(mapped).read_all()
