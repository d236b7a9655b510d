"""The files of records, in a stable order, cut into chunks that tasks read."""

import glob
import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ....shards.errors import UsageError
from ...sources.folder import printable, walk
from .reading import READERS, check_parquet, read_chunk
from .record import Chunk

CHUNK_BYTES = 16_000_000
"""Of input that one task reads. The bank's bytes do not depend on it."""
HEAD_RECORDS = 100
HEAD_BYTES = 1_000_000


@dataclass(frozen=True, slots=True)
class InputFile:
    """A file of records."""

    path: str
    """Absolute."""
    name: str
    """As the ledger shows it: relative to the folder that was given."""
    bytes: int
    """Of its records: of Parquet the columns that are read, without compression."""
    mtime_ns: int


def list_files(records: Path, columns: tuple[str, str, str], max_bytes: int) -> list[InputFile]:
    """The files that `records` names, sorted by name, each held to be what its name says.

    Args:
        records: a file, a folder (other files in it are passed over), or a pattern as in a shell.
        columns: of action, text and source.
        max_bytes: longest record.

    Raises:
        UsageError: there is none, one cannot be read, or holds no column of actions and texts.
    """
    kinds = ", ".join(kind[1:] for kind in READERS)
    if records.is_dir():
        names = sorted(name for name in walk(records) if os.path.splitext(name)[1].lower() in READERS)
        found = [(str(records.absolute() / name), name) for name in names]
        if not found:
            raise UsageError(f"records {records} must be a folder with {kinds} files, but there is none")
    else:
        paths = [str(records)] if records.exists() else sorted(glob.glob(str(records), recursive=True))
        paths = [path for path in paths if os.path.isfile(path)]
        if not paths:
            raise UsageError(
                f"records {records} must be a {' or '.join(kinds.rsplit(', ', 1))} file, a folder or a pattern of "
                "them, but there is none"
            )
        root = os.path.commonpath([os.path.dirname(os.path.abspath(path)) for path in paths])
        found = [(os.path.abspath(path), os.path.relpath(path, root)) for path in paths]
    for path, _ in found:
        if os.path.splitext(path)[1].lower() not in READERS:
            raise UsageError(f"records {path} must be a {' or '.join(kinds.rsplit(', ', 1))} file")
    return [_checked(path, name, columns, max_bytes) for path, name in found]


def _checked(path: str, name: str, columns: tuple[str, str, str], max_bytes: int) -> InputFile:
    """One file, found readable; its first records must have an action and a text, if any has."""
    try:
        status = os.stat(path)
        size = status.st_size
        if path.lower().endswith(".parquet"):
            size = check_parquet(path, columns)
        elif size:
            head = Chunk(0, path, 0, min(size, HEAD_BYTES))
            records = list(islice(read_chunk(head, columns, max_bytes), HEAD_RECORDS))
            seen = [record for record in records if record.fault is None]
            if records and not seen:
                first = records[0]
                assert first.fault is not None
                raise UsageError(
                    f"records {path} must have `{columns[0]}` and `{columns[1]}` in every record, but none of the "
                    f"first {len(records)} has: {first.fault[1]}"
                )
    except (OSError, pa.ArrowException) as error:
        raise UsageError(f"records {path} must be readable: {error}") from error
    return InputFile(path, printable(name), size, status.st_mtime_ns)


def chunks_of(files: list[InputFile]) -> Iterator[Chunk]:
    """Every file cut into chunks: lines by bytes, Parquet by row groups, csv and tars whole."""
    for number, file in enumerate(files):
        if file.path.lower().endswith(".jsonl"):
            for start in range(0, file.bytes, CHUNK_BYTES):
                yield Chunk(number, file.path, start, min(start + CHUNK_BYTES, file.bytes))
        elif file.path.lower().endswith(".parquet"):
            yield from _row_groups(number, file)
        else:
            yield Chunk(number, file.path, 0, file.bytes)


def _row_groups(number: int, file: InputFile) -> Iterator[Chunk]:
    metadata = pq.read_metadata(file.path)
    start, size = 0, 0
    for group in range(metadata.num_row_groups):
        size += metadata.row_group(group).total_byte_size
        if size >= CHUNK_BYTES or group == metadata.num_row_groups - 1:
            yield Chunk(number, file.path, start, group + 1)
            start, size = group + 1, 0
