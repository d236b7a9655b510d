"""Records of csv and tsv, with lines inside quoted fields: one broken record costs itself, not the rest of the file."""

import csv
from collections.abc import Iterator
from typing import BinaryIO

from ....shards.bank.files import Reason
from ....shards.errors import UsageError
from .record import Chunk, Columns, Record, excerpt, lines_of, not_text, record_of, too_long

MAX_RECORD_LINES = 1000
_OPEN = "unexpected end of data"


def csv_records(chunk: Chunk, columns: Columns, max_bytes: int) -> Iterator[Record]:
    """The records of a csv (or .tsv) file, whose first line names the columns.

    A line that opens a quoted field goes on to the line that closes it, over at most 1000 lines; where none does, that
    line alone is at fault, and reading goes on behind it.

    Raises:
        UsageError: the first line lacks a column or names one twice.
    """
    delimiter = "\t" if chunk.path.lower().endswith(".tsv") else ","
    with open(chunk.path, "rb") as file:
        names, row, places = None, 0, [-1, -1, -1]
        for offset, size, data in _records(file, delimiter, max_bytes):
            if names is None:
                names = _header(chunk.path, data, delimiter, columns)
                places = [names.index(name) if name in names else -1 for name in columns]
                continue
            if size > max_bytes:
                yield too_long(row, offset, size, max_bytes, data)
            elif data.isspace():
                continue
            else:
                yield _record(row, offset, data, delimiter, len(names), places, columns)
            row += 1


def _header(path: str, data: bytes, delimiter: str, columns: Columns) -> list[str]:
    try:
        names = next(csv.reader([data.removeprefix(b"\xef\xbb\xbf").decode()], delimiter=delimiter, strict=True))
    except (UnicodeDecodeError, csv.Error, StopIteration) as error:
        raise UsageError(f"records {path} must begin with the names of its columns: {error}") from error
    for name in columns[:2]:
        if names.count(name) != 1:
            raise UsageError(f"records {path} must have one column `{name}`, got {', '.join(map(repr, names))[:300]}")
    return names


def _records(file: BinaryIO, delimiter: str, max_bytes: int) -> Iterator[tuple[int, int, bytes]]:
    """(offset, length, bytes) of every record."""
    lines = lines_of(file, 0, 1 << 62, max_bytes)
    while (line := next(lines, None)) is not None:
        offset, size, data = line
        if size > max_bytes or b'"' not in data or _fault(data, delimiter) != _OPEN:
            yield line
            continue
        parts = [data]
        for _, more, data in lines:
            size += more
            parts.append(data)
            # another open or closed quote: an even number of quotes cannot end the field
            closes = data.count(b'"') % 2 == 1
            if size > max_bytes or closes or len(parts) == MAX_RECORD_LINES:
                break
        else:
            closes = False
        whole = b"".join(parts)
        if size <= max_bytes and closes and _fault(whole, delimiter) is None:
            yield offset, size, whole
        else:
            yield line
            file.seek(offset + line[1])
            lines = _shifted(file, offset + line[1], max_bytes)


def _shifted(file: BinaryIO, start: int, max_bytes: int) -> Iterator[tuple[int, int, bytes]]:
    """The lines from a byte on at which one begins."""
    for offset, size, data in lines_of(file, 0, 1 << 62, max_bytes):
        yield start + offset, size, data


def _fault(data: bytes, delimiter: str) -> str | None:
    """What is wrong with the quotes of a record, if anything is."""
    try:
        for _ in csv.reader([data.decode("utf-8", "replace")], delimiter=delimiter, strict=True):
            pass
    except csv.Error as error:
        return str(error)
    return None


def _record(
    row: int, offset: int, data: bytes, delimiter: str, width: int, places: list[int], columns: Columns
) -> Record:
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        return not_text(row, offset, data, error)
    try:
        (fields,) = csv.reader([text.removesuffix("\n").removesuffix("\r")], delimiter=delimiter, strict=True)
    except (csv.Error, ValueError) as error:
        reason: Reason = "nul" if "\0" in text else "columns"
        return Record(row, offset, "", excerpt(text), "", (reason, f"not a record of csv: {error}"))
    if len(fields) != width:
        detail = f"must have {width} fields, got {len(fields)}"
        return Record(row, offset, "", excerpt(text), "", ("columns", detail))
    return record_of(row, offset, columns, *(fields[place] if place >= 0 else None for place in places))
