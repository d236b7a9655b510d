"""csv, tsv, jsonl, parquet and json files, read without trusting them: streamed, no line without an end."""

import csv
import json
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any, TextIO

import pyarrow as pa
import pyarrow.parquet as pq

from ...shards.errors import UsageError

MANIFEST_EXTENSIONS = (".csv", ".tsv", ".jsonl", ".parquet")
MAX_LINE_CHARS = 1 << 24
MAX_JSON_BYTES = 256_000_000  # as Python objects several times that
PARQUET_ROWS = 4096
PARQUET_BUFFER_BYTES = 1 << 20


def read_records(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a csv, tsv, jsonl or parquet file, streamed.

    Raises:
        UsageError: the file does not parse; names the line.
    """
    try:
        match path.suffix.lower():
            case ".parquet":
                yield from _parquet(path)
            case ".jsonl":
                yield from _jsonl(path)
            case suffix:
                yield from _csv(path, "\t" if suffix == ".tsv" else ",")
    except (OSError, UnicodeDecodeError, csv.Error, pa.ArrowException) as error:
        raise UsageError(f"{path} does not read as {path.suffix[1:]}: {error}") from error


def _parquet(path: Path) -> Iterator[dict[str, Any]]:
    # one buffered page at a time: by default a whole row group is read ahead, and some writers make only one
    with pq.ParquetFile(path, pre_buffer=False, buffer_size=PARQUET_BUFFER_BYTES) as file:
        for batch in file.iter_batches(PARQUET_ROWS, use_threads=False):
            yield from batch.to_pylist()


def _csv(path: Path, delimiter: str) -> Iterator[dict[str, Any]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(_bounded(file, path), delimiter=delimiter, strict=True)
        names = reader.fieldnames or []
        twice = next((name for i, name in enumerate(names) if name in names[:i]), None)
        if twice is not None:
            raise UsageError(f"{path}:1: every column must be named once, got {twice!r} twice")
        for record in reader:
            if None in record or None in record.values():
                got = len(names) + len(record.get(None) or ()) - sum(value is None for value in record.values())
                raise UsageError(f"{path}:{reader.line_num}: must have {len(names)} fields, got {got}")
            yield record


def _jsonl(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(_bounded(file, path), 1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise UsageError(f"{path}:{number}: must be one JSON object per line, but {error}") from error
            if not isinstance(record, dict):
                raise UsageError(f"{path}:{number}: must be a JSON object, got {type(record).__name__}")
            yield record


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a text list that are not blank, stripped, each with its number.

    Raises:
        UsageError: it is not UTF-8 text.
    """
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(_bounded(file, path), 1):
                if text := line.strip():
                    yield number, text
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} does not read as text: {error}") from error


def _bounded(file: TextIO, path: Path) -> Iterator[str]:
    for number in count(1):
        line = file.readline(MAX_LINE_CHARS)
        if not line:
            return
        if len(line) == MAX_LINE_CHARS:
            raise UsageError(f"{path}:{number}: a line must be shorter than {MAX_LINE_CHARS} characters")
        yield line


def read_json(path: Path) -> Any:
    """A json file as a whole.

    Raises:
        UsageError: it does not parse, or is larger than `MAX_JSON_BYTES`.
    """
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise UsageError(
                f"{path} must be at most {MAX_JSON_BYTES // 10**6} MB to be read as json, "
                f"got {path.stat().st_size // 10**6} MB: give it as a jsonl manifest"
            )
        return json.loads(path.read_bytes())
    except UsageError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{path} does not read as json: {error}") from error
