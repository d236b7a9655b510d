"""Files of records → records, streamed and not trusted: what is wrong with one record is said in its place.

A line of jsonl is one object; csv, tsv and tars have modules of their own. No reader holds more than one record that is
as long as a record may be, or one batch of rows of a Parquet file.
"""

import json
import os
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ....shards.bank.files import Reason
from ....shards.errors import UsageError
from .reading_csv import csv_records
from .reading_tars import tar_records
from .record import PIECE_BYTES, Chunk, Columns, Record, excerpt, lines_of, not_text, record_of, too_long

BATCH_ROWS = 4096
BATCH_BYTES = 32_000_000


def read_chunk(chunk: Chunk, columns: Columns, max_bytes: int) -> Iterator[Record]:
    """The records of a chunk.

    Args:
        chunk: what to read.
        columns: of action, text and source.
        max_bytes: longest record.

    Raises:
        UsageError: the file as a whole is of another kind or lacks a column.
        OSError: it cannot be opened.
    """
    yield from READERS[os.path.splitext(chunk.path)[1].lower()](chunk, columns, max_bytes)


def _jsonl(chunk: Chunk, columns: Columns, max_bytes: int) -> Iterator[Record]:
    row = 0
    with open(chunk.path, "rb") as file:
        for offset, size, line in lines_of(file, chunk.start, chunk.end, max_bytes):
            if size > max_bytes:
                yield too_long(row, offset, size, max_bytes, line)
            elif line.isspace():
                continue
            else:
                yield json_record(row, offset, line.removeprefix(b"\xef\xbb\xbf"), columns)
            row += 1


def json_record(row: int, offset: int, data: bytes, columns: Columns) -> Record:
    """A record out of one JSON object."""
    try:
        content = json.loads(data.decode())
    except UnicodeDecodeError as error:
        return not_text(row, offset, data, error)
    except (ValueError, RecursionError) as error:
        reason: Reason = "nul" if b"\0" in data else "not_json"
        return Record(row, offset, "", excerpt(data), "", (reason, f"must be one JSON object: {error}"))
    if not isinstance(content, dict):
        detail = f"must be a JSON object, got {type(content).__name__}"
        return Record(row, offset, "", excerpt(data), "", ("not_json", detail))
    return record_of(row, offset, columns, *(content.get(name) for name in columns))


def check_parquet(path: str, columns: Columns) -> int:
    """Hold a Parquet file's schema to its columns of text; returns how many bytes of records it has.

    Raises:
        UsageError: a column is missing or is no text.
        pa.ArrowException, OSError: it does not read.
    """
    with pq.ParquetFile(path) as file:
        schema, metadata = file.schema_arrow, file.metadata
        for name in columns[:2]:
            if schema.names.count(name) != 1 or not _is_text(schema.field(name).type):
                got = ", ".join(f"{field.name} {field.type}" for field in schema)
                raise UsageError(f"records {path} must have text columns `{columns[0]}` and `{columns[1]}`, got {got}")
        return sum(metadata.row_group(group).total_byte_size for group in range(metadata.num_row_groups))


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _parquet(chunk: Chunk, columns: Columns, max_bytes: int) -> Iterator[Record]:
    row = 0
    # one buffered page at a time: by default a whole row group is read ahead
    with pq.ParquetFile(chunk.path, pre_buffer=False, buffer_size=PIECE_BYTES) as file:
        names = [name for name in columns if name in file.schema_arrow.names]
        for group in range(chunk.start, chunk.end):
            metadata = file.metadata.row_group(group)
            each = metadata.total_byte_size // max(1, metadata.num_rows)
            rows = max(1, min(BATCH_ROWS, BATCH_BYTES // max(1, each)))
            try:
                for batch in file.iter_batches(rows, row_groups=[group], columns=names, use_threads=False):
                    values = [_values(batch, name) for name in columns]
                    for three in zip(*values, strict=True):
                        yield _parquet_record(row, three, columns, max_bytes)
                        row += 1
            except (OSError, pa.ArrowException) as error:
                detail = f"row group {group} does not read on: {error}"
                yield Record(row, -1, "", "", "", ("damaged", detail))
                row += 1


def _values(batch: pa.RecordBatch, name: str) -> list[Any]:
    """A column's values: bytes where it is text, since nobody has held that to be UTF-8."""
    if name not in batch.schema.names:
        return [None] * batch.num_rows
    column = batch.column(batch.schema.get_field_index(name))
    if not _is_text(column.type):
        values: list[Any] = column.to_pylist()
        return values
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    values = column.cast(pa.large_binary() if pa.types.is_large_string(column.type) else pa.binary()).to_pylist()
    return values


def _parquet_record(row: int, values: tuple[Any, ...], columns: Columns, max_bytes: int) -> Record:
    size = sum(len(value) for value in values if isinstance(value, bytes))
    if size > max_bytes:
        return too_long(row, -1, size, max_bytes, max((v for v in values if isinstance(v, bytes)), key=len))
    try:
        return record_of(row, -1, columns, *(v.decode() if isinstance(v, bytes) else v for v in values))
    except UnicodeDecodeError as error:
        return not_text(row, -1, error.object, error)


READERS: dict[str, Callable[[Chunk, Columns, int], Iterator[Record]]] = {
    ".csv": csv_records,
    ".tsv": csv_records,
    ".jsonl": _jsonl,
    ".parquet": _parquet,
    ".tar": tar_records,
}
"""Kind of file, by its suffix → what reads it."""
