"""The second stage of a bank: the rows of one part → sorted descriptions without duplicates.

Of texts that are the same the first stays: what the bank had already, then in the order of the files and their records.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ....shards.bank.files import (
    DESCRIPTIONS,
    DESCRIPTIONS_FOLDER,
    TEXTS,
    Part,
    Reason,
    check_files,
    file_entry,
    read_record,
    text_hash,
    versioned,
)
from ....shards.files import atomic_file, make_folder
from ...cluster import Effort
from .config import DedupOptions
from .gather import ROWS, LedgerWriter
from .near import find_near
from .work import BankWork

GROUP_ROWS = 1 << 16
BATCH_ROWS = 1 << 14
ZSTD_LEVEL = 9
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class PartInput:
    """Where the rows of one part are."""

    number: int
    chunks: list[tuple[int, str, int, list[int]]]
    """(chunk, file as the ledger shows it, rows of the file before the chunk, batches that are of this part)."""
    actions: Mapping[int, str]
    """Action id → canonical name."""
    old: Part | None
    """The part as the bank has it, where something is added to it."""


def merge_part(out: Path, digest: str, source: PartInput) -> Effort:
    """Write one part of the bank: a task.

    Raises:
        StorageError: the disk refused.
        DamageError: the part to which something is added is not what it was.
    """
    work = BankWork(out)
    plan = work.plan(digest)
    rows = _Rows(work, source, plan.parts)
    counts: list[tuple[int, int]] = []
    stem = f"{DESCRIPTIONS_FOLDER}/{source.number:06d}"
    names = [versioned(f"{stem}.{kind}", plan.generation) for kind in ("parquet", "arrow")]
    make_folder(work.out / DESCRIPTIONS_FOLDER)
    added = 0
    with (
        PartWriter.open(work.out / names[0], work.out / names[1]) as written,
        LedgerWriter.open(work.duplicates(source.number)) as ledger,
    ):
        for action, places in rows.actions():
            texts = rows.texts(places)
            old = int((places < rows.old).sum())
            of, reasons = find_duplicates(texts, plan.dedup, old)
            kept = [place for place in range(len(texts)) if of[place] < 0]
            added += sum(place >= old for place in kept)
            counts.append((action, len(kept)))
            kept.sort(key=texts.__getitem__)
            written.add(action, [texts[place] for place in kept], rows.rest(places[kept]))
            _note_duplicates(ledger, source.actions[action], rows, places, texts, of, reasons)
    note = {
        "rows": written.rows,
        "added": added,
        "actions": counts,
        "reasons": ledger.counts,
        "table": names[0],
        "texts": names[1],
        "files": {name: [entry.bytes, entry.sha256] for name in names if (entry := file_entry(work.out / name))},
    }
    work.write_note("parts", source.number, note)
    return Effort(len(rows), len(rows), sum((work.out / name).stat().st_size for name in names))


def find_duplicates(texts: Sequence[str], options: DedupOptions, old: int = 0) -> tuple[Ints, list[Reason]]:
    """Texts of one action that say what an earlier one says.

    Args:
        texts: in order of preference.
        options: what counts as the same.
        old: this many from the first on stay.

    Returns:
        (N,) index of the text that stays instead, -1 where a text stays itself; and "exact" or "near" for each.
    """
    of = np.full(len(texts), -1, np.int64)
    reasons: list[Reason] = ["exact"] * len(texts)
    if options.dedup == "none":
        return of, reasons
    firsts: dict[str, int] = {}
    for place, text in enumerate(texts):
        first = firsts.setdefault(text, place)
        if first != place and place >= old:
            of[place] = first
    if options.dedup == "near":
        alone = np.flatnonzero(of < 0)
        near = find_near(
            [texts[place] for place in alone.tolist()],
            threshold=options.near_threshold,
            shingle_words=options.shingle_words,
            kept=min(old, len(alone)),
        )
        gone = np.flatnonzero(near >= 0)
        of[alone[gone]] = alone[near[gone]]
        for place in alone[gone].tolist():
            reasons[place] = "near"
        # a copy of a text that went is near to what stayed instead of that
        copies = np.flatnonzero(of >= 0)
        onward = of[of[copies]]
        of[copies] = np.where(onward >= 0, onward, of[copies])
    return of, reasons


class _Rows:
    """The rows of a part: first those that the bank has, then in input order."""

    def __init__(self, work: BankWork, source: PartInput, parts: int) -> None:
        tables = [] if source.old is None else [_old_rows(work.out, source.old, source.number, parts)]
        self.old = sum(map(len, tables))
        files = [np.zeros(self.old, np.int32)]
        self._files = [("", 0)]
        for chunk, file, before, batches in source.chunks:
            with pa.memory_map(str(work.rows(chunk))) as mapped:
                reader = pa.ipc.open_file(mapped)
                table = pa.Table.from_batches([reader.get_batch(number) for number in batches])
            tables.append(table.append_column("relevance", pa.nulls(len(table), pa.float32())))
            files.append(np.full(len(table), len(self._files), np.int32))
            self._files.append((file, before))
        nothing = pa.schema([*ROWS, ("relevance", pa.float32())]).empty_table()
        table = pa.concat_tables([nothing, *tables])
        self._ids: Ints = table.column("action_id").to_numpy()
        self._rows: Ints = table.column("row").to_numpy()
        self._offsets: Ints = table.column("offset").to_numpy()
        self._file = np.concatenate(files)
        self._table = table.select(["text", "source", "sentences", "relevance"]).combine_chunks()

    def __len__(self) -> int:
        return len(self._ids)

    def actions(self) -> Iterator[tuple[int, Ints]]:
        """Every action with the places of its rows, in order."""
        order = np.argsort(self._ids, kind="stable")
        if not len(order):
            return
        for places in np.split(order, np.flatnonzero(np.diff(self._ids[order])) + 1):
            yield int(self._ids[places[0]]), places

    def texts(self, places: Ints) -> list[str]:
        """The texts of some rows."""
        texts: list[str] = self._table.column("text").take(pa.array(places)).to_pylist()
        return texts

    def rest(self, places: Ints) -> pa.Table:
        """Source, sentences and relevance of some rows."""
        return self._table.select(["source", "sentences", "relevance"]).take(pa.array(places))

    def where(self, place: int) -> tuple[str, int, int]:
        """(file, row, offset) of a record; the file is "" for a text that the bank had."""
        file, before = self._files[self._file[place]]
        return file, before + int(self._rows[place]) + 1, int(self._offsets[place])


def _old_rows(out: Path, part: Part, number: int, parts: int) -> pa.Table:
    """The rows that the bank has of a part, now one of `parts`, as the rows of a chunk with their relevance."""
    check_files(out, read_record(out), [part.table], content=True)
    first, last = (-(-(edge << 63) // parts) for edge in (number, number + 1))
    table = pq.read_table(out / part.table, schema=DESCRIPTIONS)
    ids = table.column("action_id").to_numpy()
    table = table.slice(*_span(ids, first, last))
    none = pa.array(np.full(len(table), -1, np.int64))
    columns = {name: table.column(name) for name in ("action_id", "text", "source", "sentences")}
    columns |= {"row": none, "offset": none, "relevance": table.column("relevance")}
    return pa.table(columns).cast(pa.schema([*ROWS, ("relevance", pa.float32())]))


def _span(ids: Ints, first: int, last: int) -> tuple[int, int]:
    """(start, length) of the sorted ids that lie in [first, last)."""
    start, end = (int(np.searchsorted(ids, np.int64(edge))) if edge < 1 << 63 else len(ids) for edge in (first, last))
    return start, end - start


def _note_duplicates(
    ledger: LedgerWriter,
    action: str,
    rows: _Rows,
    places: Ints,
    texts: Sequence[str],
    of: Ints,
    reasons: Sequence[Reason],
) -> None:
    """Put what an action had twice into the ledger, with the record that stays instead."""
    for place in np.flatnonzero(of >= 0).tolist():
        file, row, offset = rows.where(places[place])
        first, first_row, _ = rows.where(places[of[place]])
        instead = f"of row {first_row} of {first}" if first else "of a text that the bank has"
        ledger.add(file, row, offset, action, "duplicate", reasons[place], instead, texts[place])


class PartWriter:
    """The two files of a part, written action by action."""

    def __init__(self, table: Any, texts: Any) -> None:
        self._table, self._texts = table, texts
        self._waiting: list[pa.Table] = []
        self._waiting_rows = 0
        self.rows = 0

    @classmethod
    @contextmanager
    def open(cls, table: Path, texts: Path) -> Iterator["PartWriter"]:
        """Write both files; each appears whole or not at all."""
        options = {"compression": "zstd", "compression_level": ZSTD_LEVEL, "use_dictionary": ["action_id", "source"]}
        with (
            atomic_file(table) as parquet,
            atomic_file(texts) as arrow,
            pq.ParquetWriter(parquet, DESCRIPTIONS, **options) as table_writer,
            pa.ipc.new_file(arrow, TEXTS) as text_writer,
        ):
            part = cls(table_writer, text_writer)
            yield part
            if part._waiting_rows:
                part._write(part._taken(part._waiting_rows))

    def add(self, action: int, texts: Sequence[str], rest: pa.Table) -> None:
        """Take the sorted texts of one action, with their source, sentences and relevance."""
        columns = {
            "action_id": pa.array(np.full(len(texts), action, np.int64)),
            "text": pa.array(texts, pa.string()),
            "source": rest.column("source").cast(pa.string()),
            "sentences": rest.column("sentences"),
            "relevance": rest.column("relevance"),
            "hash": pa.array(map(text_hash, texts), pa.string()),
        }
        self._waiting.append(pa.table(columns, schema=DESCRIPTIONS))
        self._waiting_rows += len(texts)
        self.rows += len(texts)
        while self._waiting_rows >= GROUP_ROWS:
            self._write(self._taken(GROUP_ROWS))

    def _taken(self, rows: int) -> pa.Table:
        table = pa.concat_tables(self._waiting)
        self._waiting = [table.slice(rows)]
        self._waiting_rows -= rows
        return table.slice(0, rows)

    def _write(self, group: pa.Table) -> None:
        self._table.write_table(group, row_group_size=GROUP_ROWS)
        for first in range(0, len(group), BATCH_ROWS):
            piece = group.slice(first, BATCH_ROWS).column("text")
            texts = pa.concat_arrays([pa.array([], pa.string()), *piece.chunks])
            self._texts.write_batch(pa.record_batch([texts], schema=TEXTS))
