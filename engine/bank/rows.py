"""Rows of a bank's descriptions by number, counted through its parts: at most a batch or a row group is held at a time.

The files are not trusted: what is read is validated before anything is computed from it.
"""

from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ...shards.bank.files import DESCRIPTIONS, TEXTS, BankRecord, Part, check_files, read_record
from ...shards.errors import DamageError, UsageError
from ..cluster import Effort

Ints = NDArray[np.int64]


def open_record(bank: Path) -> BankRecord:
    """What `bank.json` says.

    Raises:
        UsageError: the folder holds no bank, or one of another version.
        DamageError: it does not read.
    """
    if not (bank / "bank.json").is_file():
        raise UsageError(f"bank must be a folder with bank.json, but {bank} has none")
    return read_record(bank)


def check_part(bank: Path, number: int) -> Effort:
    """Hold every byte of one part against `bank.json`: a task.

    Raises:
        DamageError: a file is missing or different.
    """
    record = read_record(bank)
    part = record.parts[number]
    check_files(bank, record, [part.table, part.texts], content=True)
    return Effort(part.rows, part.rows, sum(record.files[name].bytes for name in (part.table, part.texts)))


def text_batches(path: Path, first: int, rows: int) -> Iterator[pa.StringArray]:
    """The texts of rows `first` to `first + rows` of a part's memory-mapped Arrow file, in order, batch by batch.

    Raises:
        DamageError: the file does not read, or has fewer rows.
    """
    end, start = first + rows, 0
    try:
        file = pa.ipc.open_file(pa.memory_map(str(path)))
        if not file.schema.equals(TEXTS):
            raise DamageError(f"{path} must hold texts, got {file.schema}")
        for number in range(file.num_record_batches):
            if start >= end:
                return
            batch = file.get_batch(number)
            begin, start = start, start + batch.num_rows
            if start > first:
                batch.validate(full=True)
                skipped = max(0, first - begin)
                yield batch.column(0).slice(skipped, min(end, start) - begin - skipped)
    except (OSError, pa.ArrowException) as error:
        raise DamageError(f"{path} does not read: {error}") from error
    if start < end:
        raise DamageError(f"{path} must have at least {end} rows, got {start}")


class DescriptionRows:
    """Reads rows of the descriptions' tables; rows that lie together are cheap to ask for one after the other."""

    def __init__(self, bank: Path, parts: Sequence[Part], columns: Sequence[str]) -> None:
        self._bank, self._parts, self._columns = bank, parts, list(columns)
        self._starts = np.array([0, *accumulate(part.rows for part in parts)])
        self._part = self._group = -1
        self._group_starts = np.zeros(1, np.int64)
        self._table = pa.table({})

    def take(self, rows: Ints) -> pa.Table:
        """Some rows, ascending.

        Raises:
            DamageError: a table does not read.
        """
        pieces = [pa.schema([DESCRIPTIONS.field(name) for name in self._columns]).empty_table()]
        done = 0
        while done < len(rows):
            first, end = self._seek(int(rows[done]))
            until = done + int(np.searchsorted(rows[done:], end))
            pieces.append(self._table.take(pa.array(rows[done:until] - first)))
            done = until
        return pa.concat_tables(pieces)

    def _seek(self, row: int) -> tuple[int, int]:
        """Read the row group that holds a row, unless it was read last; the rows that it covers."""
        part = int(np.searchsorted(self._starts, row, side="right")) - 1
        path = self._bank / self._parts[part].table
        try:
            if part != self._part:
                self._file = pq.ParquetFile(path, pre_buffer=False)
                groups = self._file.metadata.num_row_groups
                sizes = [self._file.metadata.row_group(number).num_rows for number in range(groups)]
                self._group_starts = self._starts[part] + np.array([0, *accumulate(sizes)])
                self._part, self._group = part, -1
            if self._group_starts[-1] != self._starts[part + 1]:
                held = self._group_starts[-1] - self._starts[part]
                raise DamageError(f"{path} must have {self._parts[part].rows} rows, got {held}")
            group = int(np.searchsorted(self._group_starts, row, side="right")) - 1
            if group != self._group:
                table = self._file.read_row_group(group, columns=self._columns, use_threads=False)
                want = pa.schema([DESCRIPTIONS.field(name) for name in self._columns])
                self._table = table.select(self._columns).cast(want).combine_chunks()
                self._table.validate(full=True)
                self._group = group
        except (OSError, pa.ArrowException, KeyError) as error:
            raise DamageError(f"{path} does not read: {error}") from error
        return int(self._group_starts[group]), int(self._group_starts[group + 1])
