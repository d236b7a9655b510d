"""The first stage of a bank: a chunk of records → rows of clean texts, by part, and a ledger of what was not kept."""

import heapq
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from ....shards.bank.files import LEDGER, REASONS, Reason, Status
from ....shards.errors import StorageError, UsageError
from ....shards.files import atomic_file, sha256_of
from ....shards.schema import action_id
from ...cluster import Effort
from .clean import check_text, count_sentences
from .inputs import InputFile
from .reading import read_chunk
from .record import Chunk, Record, excerpt
from .work import BankWork, Plan

FLUSH_CHARS = 16_000_000
FLUSH_ROWS = 4096
NAMED_AT_ONCE = 100_000
MAX_ORIGINS = 100
"""Of an action: the first of them by name are kept; every description says its own source anyway."""
LZ4 = pa.ipc.IpcWriteOptions(compression="lz4")

ROWS = pa.schema(
    [
        ("action_id", pa.int64()),
        ("text", pa.large_string()),
        ("source", pa.large_string()),
        ("sentences", pa.int32()),
        ("row", pa.int64()),  # in the chunk, from 0
        ("offset", pa.int64()),  # -1 where there is none
    ]
)
FILTERED = frozenset(REASONS[REASONS.index("empty") : REASONS.index("encoding")])


def status_of(reason: Reason) -> Status:
    """Of a record that was set aside while it was read."""
    return "filtered" if reason in FILTERED else "failed"


def part_of(number: int, parts: int) -> int:
    """The part whose range of action ids a 63-bit id lies in."""
    return number * parts >> 63


@dataclass(slots=True)
class Seen:
    """Names that records gave."""

    spellings: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Spelling → canonical name and the source that had it first; in the order of their first records."""
    origins: dict[str, list[str]] = field(default_factory=dict)
    """Canonical name → sources, at most `MAX_ORIGINS`, sorted."""

    def add(self, spelling: str, canonical: str, source: str) -> None:
        """Note that a record has this name."""
        if spelling not in self.spellings:
            self.spellings[spelling] = canonical, source
        self.add_origins(canonical, (source,))

    def add_origins(self, canonical: str, sources: Iterable[str]) -> None:
        """Note where an action was named."""
        known = self.origins.setdefault(canonical, [])
        new = [source for source in sources if source not in known]
        if new:
            known[:] = heapq.nsmallest(MAX_ORIGINS, known + new)


class RowWriter:
    """Rows of an Arrow file that go in by part and come out by batch, each of one part."""

    def __init__(self, writer: Any) -> None:
        self._writer = writer
        self._waiting: dict[int, list[tuple[Any, ...]]] = {}
        self._chars = 0
        self.batches: list[tuple[int, int]] = []
        """(part, rows) of every batch."""

    @classmethod
    @contextmanager
    def open(cls, path: Path) -> Iterator["RowWriter"]:
        """Write such a file; it appears whole or not at all."""
        with atomic_file(path) as file, pa.ipc.new_file(file, ROWS, options=LZ4) as writer:
            rows = cls(writer)
            yield rows
            rows._flush()

    def add(self, part: int, row: tuple[Any, ...]) -> None:
        """Take a row of `ROWS`."""
        self._waiting.setdefault(part, []).append(row)
        self._chars += len(row[1])
        if self._chars >= FLUSH_CHARS:
            self._flush()

    def _flush(self) -> None:
        for part, rows in sorted(self._waiting.items()):
            self._writer.write_batch(_batch(rows, ROWS))
            self.batches.append((part, len(rows)))
        self._waiting.clear()
        self._chars = 0


class LedgerWriter:
    """Rows of the bank's ledger, as a compressed Arrow file."""

    def __init__(self, writer: Any) -> None:
        self._writer = writer
        self._waiting: list[tuple[Any, ...]] = []
        self.counts: Counter[str] = Counter()

    @classmethod
    @contextmanager
    def open(cls, path: Path) -> Iterator["LedgerWriter"]:
        """Write such a file; it appears whole or not at all."""
        with atomic_file(path) as file, pa.ipc.new_file(file, LEDGER, options=LZ4) as writer:
            ledger = cls(writer)
            yield ledger
            ledger._flush()

    def add(
        self, file: str, row: int, offset: int, action: str, status: Status, reason: Reason, detail: str, text: str
    ) -> None:
        """Take a row of `LEDGER`; an offset of -1 is none."""
        self.counts[reason] += 1
        place = None if offset < 0 else offset
        self._waiting.append((file, row, place, action, status, reason, excerpt(detail), excerpt(text)))
        if len(self._waiting) >= FLUSH_ROWS:
            self._flush()

    def _flush(self) -> None:
        if self._waiting:
            self._writer.write_batch(_batch(self._waiting, LEDGER))
            self._waiting.clear()


def _batch(rows: Sequence[tuple[Any, ...]], schema: pa.Schema) -> pa.RecordBatch:
    columns = [pa.array(column, kind.type) for column, kind in zip(zip(*rows, strict=True), schema, strict=True)]
    return pa.record_batch(columns, schema=schema)


def gather(out: Path, digest: str, number: int, chunk: Chunk) -> Effort:
    """Read one chunk of the records: a task.

    Raises:
        StorageError: the disk refused, or a file changed since the job began.
        UsageError: more names than a bank may have.
    """
    work = BankWork(out)
    plan = work.plan(digest)
    file, seen, records = plan.files[chunk.file], Seen(), 0
    _check_unchanged(file)
    with RowWriter.open(work.rows(number)) as rows, LedgerWriter.open(work.aside(number)) as ledger:
        reader = _Reader(plan, file.name, seen, rows, ledger)
        for record in read_chunk(chunk, plan.columns, plan.max_record_bytes):
            reader.take(record)
            records += 1
    _check_unchanged(file)
    note = {
        "file": chunk.file,
        "records": records,
        "reasons": ledger.counts,
        "batches": rows.batches,
        "spellings": [(spelling, *told) for spelling, told in seen.spellings.items()],
        "origins": seen.origins,
        "said": [sha256_of(work.rows(number)), sha256_of(work.aside(number))],
    }
    work.write_note("read", number, note)
    return Effort(records, records, work.rows(number).stat().st_size)


def _check_unchanged(file: InputFile) -> None:
    try:
        status = os.stat(file.path)
    except OSError as error:
        raise StorageError(f"{file.path} went away while it was read ({error.strerror}); run again") from error
    if status.st_mtime_ns != file.mtime_ns:
        raise StorageError(f"{file.path} changed while it was read; run again")


class _Reader:
    """What becomes of one record after the other."""

    def __init__(self, plan: Plan, file: str, seen: Seen, rows: RowWriter, ledger: LedgerWriter) -> None:
        self._file, self._seen, self._rows, self._ledger = file, seen, rows, ledger
        self._names, self._options, self._parts, self._max_names = plan.names, plan.clean, plan.parts, plan.max_names
        self._known = None if plan.known is None else frozenset(plan.known)
        self._actions: dict[str, tuple[str, int, int]] = {}
        self._named: set[tuple[str, str]] = set()
        """(spelling, source) that `seen` has; forgotten now and then, as sources may be without end."""

    def take(self, record: Record) -> None:
        if record.fault is not None:
            self._put_aside(record, *record.fault, record.text)
            return
        canonical, number, part = self._action(record.action)
        if self._known is not None and canonical not in self._known:
            detail = f"{canonical[:80]!r} is not an action of the bank"
            self._put_aside(record, "unknown_action", detail, record.text)
            return
        text, rejection = check_text(record.text, self._options)
        if rejection is not None:
            self._put_aside(record, *rejection, text)
            return
        source = record.source or self._file
        if (record.action, source) not in self._named:
            if len(self._named) >= NAMED_AT_ONCE:
                self._named.clear()
            self._named.add((record.action, source))
            self._seen.add(record.action, canonical, source)
        self._rows.add(part, (number, text, source, count_sentences(text), record.row, record.offset))

    def _action(self, spelling: str) -> tuple[str, int, int]:
        """Canonical name, id and part of a spelling."""
        known = self._actions.get(spelling)
        if known is None:
            if len(self._actions) >= self._max_names:
                if self._known is None:
                    raise too_many_names(self._max_names)
                self._actions.clear()  # names that are no action may be without end
            canonical = self._names(spelling)
            number = action_id(canonical)
            known = self._actions[spelling] = canonical, number, part_of(number, self._parts)
        return known

    def _put_aside(self, record: Record, reason: Reason, detail: str, text: str) -> None:
        status = status_of(reason)
        self._ledger.add(self._file, record.row, record.offset, record.action, status, reason, detail, text)


def too_many_names(most: int) -> UsageError:
    """The records' action column is none."""
    return UsageError(
        f"records must name at most {most} different actions (max_names), got more: is the column of actions right? "
        "A list of labels sets other records aside"
    )
