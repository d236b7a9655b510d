"""What a dataset's earlier generations hold: the base that a new generation is told apart from.

`inputs.parquet` beside the ledger remembers every input row, where its file lay, and its size and time (or etag) when
it was read. It is not part of the dataset's digest: a copy of the same corpus has other times. Without it every input
counts as changed.
"""

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ..shards import ledger
from ..shards.files import atomic_file
from ..shards.ledger import LedgerRow
from ..shards.manifest import Manifest
from .sources import InputRow
from .work import row_from, row_text

INPUTS_NAME = "inputs.parquet"
INPUTS_SCHEMA = pa.schema(
    [
        ("input_id", pa.string()),
        ("row", pa.string()),  # canonical JSON of the input row, without `path`
        ("path", pa.binary()),  # where the file was; a file name can be any bytes
        ("version", pa.string()),  # size and time, or etag; null where it could not be read
    ]
)


class Earlier:
    """The ledger and the inputs of a committed dataset, found by input id."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.manifest = manifest
        self._ledger = ledger.read_ledger(folder)
        self._inputs = _read_inputs(folder, self._ledger)
        digests = _digests(self._ledger.column("input_id").to_pylist())
        self._order = np.argsort(digests, kind="stable")
        self._digests = digests[self._order]
        self.status: NDArray[np.object_] = np.array(self._ledger.column("status").to_pylist(), dtype=object)

    def __len__(self) -> int:
        return len(self._ledger)

    def find(self, input_ids: Sequence[str]) -> list[int | None]:
        """The ledger's row of each id, None where there is none."""
        digests = _digests(input_ids)
        places = np.searchsorted(self._digests, digests)
        return [
            self._exactly(place, digest, name) for place, digest, name in zip(places, digests, input_ids, strict=True)
        ]

    def _exactly(self, place: int, digest: np.uint64, input_id: str) -> int | None:
        while place < len(self._digests) and self._digests[place] == digest:
            row = int(self._order[place])
            if self._ledger.column("input_id")[row].as_py() == input_id:
                return row
            place += 1
        return None

    def row(self, number: int) -> LedgerRow:
        """What became of an earlier input."""
        return ledger.row_of(self._ledger.slice(number, 1).to_pylist()[0])

    def same(self, number: int, row: InputRow) -> bool:
        """Whether the input was given with the same words; whether its file is the same is another question."""
        return bool(self._inputs.column("row")[number].as_py() == row_text(row))

    def version(self, number: int) -> str | None:
        """Size and time (or etag) of the file when it was read."""
        version: str | None = self._inputs.column("version")[number].as_py()
        return version

    def path(self, number: int) -> str:
        """Where the file was."""
        return os.fsdecode(self._inputs.column("path")[number].as_py())

    def input(self, number: int) -> InputRow:
        """The input as it was given; where that is not remembered, its id and uri."""
        text = self._inputs.column("row")[number].as_py()
        if text is None:
            row = self.row(number)
            return InputRow(row.input_id, "", row.uri)
        return row_from(text, self.path(number))

    def rows(self, numbers: NDArray[np.int64], columns: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Columns of some ledger rows, streamed."""
        table = self._ledger.select(list(columns))
        for start in range(0, len(numbers), 4096):
            yield from table.take(pa.array(numbers[start : start + 4096])).to_pylist()


def _read_inputs(folder: Path, rows: pa.Table) -> pa.Table:
    """The remembered inputs; nulls where the file is gone or belongs to another ledger."""
    path = folder / INPUTS_NAME
    if path.is_file():
        table = pq.read_table(path, schema=INPUTS_SCHEMA)
        if len(table) == len(rows) and pc.all(pc.equal(table["input_id"], rows["input_id"])).as_py() is not False:
            return table
    empty = [pa.nulls(len(rows), field.type) for field in INPUTS_SCHEMA][1:]
    return pa.table([rows["input_id"], *empty], schema=INPUTS_SCHEMA)


def _digests(input_ids: Sequence[str]) -> NDArray[np.uint64]:
    """64 bits of each id; equal ones are compared as text."""
    hashes = (hashlib.blake2b(name.encode(errors="surrogateescape"), digest_size=8).digest() for name in input_ids)
    return np.frombuffer(b"".join(hashes), dtype=np.uint64)


@contextmanager
def inputs_writer(path: Path) -> Iterator[Callable[[Sequence[tuple[InputRow, str | None]]], None]]:
    """Write inputs.parquet piece by piece: (row, version) pairs in ledger order."""
    with atomic_file(path) as file, pq.ParquetWriter(file, INPUTS_SCHEMA, compression="zstd") as writer:

        def write(rows: Sequence[tuple[InputRow, str | None]]) -> None:
            columns = [
                [row.input_id for row, _ in rows],
                [row_text(row) for row, _ in rows],
                [os.fsencode(row.path) for row, _ in rows],
                [version for _, version in rows],
            ]
            writer.write_table(pa.table(columns, schema=INPUTS_SCHEMA))

        yield write
