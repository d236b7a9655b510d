"""Inputs as rows: a folder of videos, or a csv, tsv, jsonl or parquet manifest."""

import csv
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ..shards.errors import UsageError

_NAMES = "3gp asf avi flv m2ts m4v mkv mov mp4 mpeg mpg mts mxf ogv ts vob webm wmv"
VIDEO_EXTENSIONS = frozenset(f".{name}" for name in _NAMES.split(" "))
MANIFEST_EXTENSIONS = (".csv", ".tsv", ".jsonl", ".parquet")


@dataclass(frozen=True, slots=True)
class InputRow:
    """One input, as the user named it."""

    input_id: str
    path: str
    """Absolute path of the video."""
    uri: str
    """As it was given: what the ledger and the sample show."""
    labels: list[str] = field(default_factory=list)
    caption: str | None = None
    split: str | None = None
    start_seconds: float | None = None
    end_seconds: float | None = None
    extra: dict[str, Any] = field(default_factory=dict)
    """Further manifest columns."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """All rows of an input, and how many files of a folder were not videos."""

    rows: list[InputRow]
    ignored: int = 0


def read_inputs(source: Path) -> Inputs:
    """Read a folder or a manifest.

    Raises:
        UsageError: nothing there, no video in it, an unknown kind of file, a bad row or an id given twice.
    """
    if source.is_dir():
        inputs = _folder(source)
    elif not source.exists():
        raise UsageError(f"input {source} must be a folder or a manifest, but there is nothing")
    elif source.suffix.lower() in MANIFEST_EXTENSIONS:
        inputs = Inputs([_row(record, source, number) for number, record in enumerate(read_records(source), 1)])
    else:
        kinds = ", ".join(MANIFEST_EXTENSIONS)
        raise UsageError(
            f"input {source} must be a folder or a manifest ({kinds}), got a {source.suffix or 'nameless'} file"
        )
    if not inputs.rows:
        kinds = " ".join(sorted(VIDEO_EXTENSIONS))
        raise UsageError(f"input {source} must hold at least one video ({kinds}), got {inputs.ignored} other files")
    seen: set[str] = set()
    for row in inputs.rows:
        if row.input_id in seen:
            raise UsageError(f"{source}: every id must be given once, got {row.input_id!r} twice")
        seen.add(row.input_id)
    return inputs


def _folder(folder: Path) -> Inputs:
    rows, ignored = [], 0
    for parent, folders, files in os.walk(folder):
        folders.sort()
        for name in files:
            path = Path(parent) / name
            if path.suffix.lower() not in VIDEO_EXTENSIONS:
                ignored += 1
                continue
            relative = path.relative_to(folder)
            labels = [relative.parts[0]] if len(relative.parts) > 1 else []
            rows.append(InputRow(relative.as_posix(), str(path.absolute()), relative.as_posix(), labels))
    return Inputs(sorted(rows, key=lambda row: row.input_id), ignored)


def read_records(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a csv, tsv, jsonl or parquet file, streamed.

    Raises:
        UsageError: the file does not parse; names the line.
    """
    try:
        match path.suffix.lower():
            case ".parquet":
                for batch in pq.ParquetFile(path).iter_batches():
                    yield from batch.to_pylist()
            case ".jsonl":
                yield from _jsonl(path)
            case suffix:
                with path.open(newline="", encoding="utf-8-sig") as file:
                    reader = csv.DictReader(file, delimiter="\t" if suffix == ".tsv" else ",", strict=True)
                    for record in reader:
                        if None in record or None in record.values():
                            raise UsageError(
                                f"{path}:{reader.line_num}: must have {len(reader.fieldnames or [])} fields"
                            )
                        yield record
    except (OSError, UnicodeDecodeError, csv.Error, pa.ArrowInvalid) as error:
        raise UsageError(f"{path} does not read as {path.suffix[1:]}: {error}") from error


def _jsonl(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except json.JSONDecodeError as error:
                raise UsageError(f"{path}:{number}: must be one JSON object per line, but {error}") from error
            if not isinstance(record, dict):
                raise UsageError(f"{path}:{number}: must be a JSON object, got {type(record).__name__}")
            yield record


def _row(record: Mapping[str, Any], manifest: Path, number: int) -> InputRow:
    rest = dict(record)
    uri = rest.pop("path", None) or rest.pop("url", None)
    if not isinstance(uri, str):
        columns = ", ".join(map(str, record))
        raise UsageError(
            f"{manifest}: row {number} must name its video in a column `path` or `url`, got columns {columns}"
        )
    if "://" in uri:
        raise UsageError(f"{manifest}: row {number} must be a local path, got {uri!r}")
    start, end = _seconds(rest, "start_seconds", manifest, number), _seconds(rest, "end_seconds", manifest, number)
    if start is not None and end is not None and not 0 <= start < end:
        raise UsageError(f"{manifest}: row {number} must have 0 <= start_seconds < end_seconds, got {start} and {end}")
    return InputRow(
        input_id=str(rest.pop("id", None) or Path(uri).as_posix()),
        path=str((manifest.parent / uri).absolute()),
        uri=uri,
        labels=_labels(rest.pop("label", None), manifest, number),
        caption=rest.pop("caption", None) or None,
        split=rest.pop("split", None) or None,
        start_seconds=start,
        end_seconds=end,
        extra=rest,
    )


def _labels(value: Any, manifest: Path, number: int) -> list[str]:
    if value is None or value == "":
        return []
    labels = value if isinstance(value, list) else [value]
    if not all(isinstance(label, str) for label in labels):
        raise UsageError(f"{manifest}: row {number} must have a name or a list of names as label, got {value!r}")
    return labels


def _seconds(rest: dict[str, Any], column: str, manifest: Path, number: int) -> float | None:
    value = rest.pop(column, None)
    if value is None or value == "":
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        raise UsageError(f"{manifest}: row {number} must have a number as {column}, got {value!r}") from None
