"""What a bank holds, counted in one pass over its descriptions: the figures of ActionHub's section 3.3."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from .... import console
from ....shards.bank import read_actions
from ....shards.bank.files import BankRecord, check_files
from ..rows import DescriptionRows, open_record

ROWS_AT_ONCE = 1 << 16
MAX_SOURCES = 100_000
"""Different sources that are counted one by one; more of them are put together."""

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Stats:
    """Counts of a bank; A actions in the order of their ids."""

    names: list[str]
    """Canonical."""
    descriptions_A: Ints
    sentences_A: Ints
    words: int
    """Of all descriptions, between spaces."""
    sources: Counter[str]
    relevance: list[float] | None
    """Least, quarter, half, three quarters and most of relevance; None where nothing has one."""
    scored: int
    """Descriptions with relevance."""
    totals: Mapping[str, int]
    reasons: Mapping[str, int]
    tables: dict[str, int]
    """Other files → bytes."""

    def ranked(self, most: bool, count: int) -> list[tuple[str, int]]:
        """The actions with most or with fewest descriptions; equal ones by name."""
        rows = zip(self.names, self.descriptions_A.tolist(), strict=True)
        return sorted(rows, key=lambda row: (-row[1] if most else row[1], row[0]))[:count]


def count_bank(bank: Path) -> Stats:
    """Count what a bank holds; memory is that of a row group, and 4 bytes per description with relevance.

    Raises:
        UsageError: no bank there.
        DamageError: a file of it does not read.
    """
    record = open_record(bank)
    check_files(bank, record, record.files, content=False)
    actions = read_actions(bank, record)
    rows = DescriptionRows(bank, record.parts, ["text", "source", "sentences", "relevance"])
    total = sum(part.rows for part in record.parts)
    ends_A = np.array([row["first_row"] + row["descriptions"] for row in actions], np.int64)
    sentences_A, words, sources = np.zeros(len(actions), np.int64), 0, Counter[str]()
    relevance = [np.empty(0, np.float32)]
    with console.progress(total, "count", "rows") as shown:
        for first in range(0, total, ROWS_AT_ONCE):
            places = np.arange(first, min(first + ROWS_AT_ONCE, total))
            table = rows.take(places)
            action = np.searchsorted(ends_A, places, side="right")
            counts = pc.fill_null(table.column("sentences"), 0).to_numpy()
            sentences_A += np.bincount(action, counts, len(actions)).astype(np.int64)
            pieces = pc.utf8_split_whitespace(table.column("text"))
            words += pc.sum(pc.list_value_length(pieces)).as_py() or 0
            _count_sources(sources, table.column("source"))
            relevance.append(pc.drop_null(table.column("relevance")).to_numpy())
            shown.update(len(places))
    scores = np.concatenate(relevance)
    return Stats(
        [row["canonical"] for row in actions],
        np.array([row["descriptions"] for row in actions], np.int64),
        sentences_A,
        words,
        sources,
        [float(each) for each in np.quantile(scores, [0, 0.25, 0.5, 0.75, 1])] if len(scores) else None,
        len(scores),
        record.totals,
        record.reasons,
        _others(record),
    )


def _count_sources(sources: Counter[str], column: pa.ChunkedArray) -> None:
    for row in pc.value_counts(pc.fill_null(column, "")).to_pylist():
        known = row["values"] in sources or len(sources) < MAX_SOURCES
        sources[row["values"] if known else "(others)"] += row["counts"]


def _others(record: BankRecord) -> dict[str, int]:
    parts = {name for part in record.parts for name in (part.table, part.texts)}
    return {name: entry.bytes for name, entry in record.files.items() if name not in parts}
