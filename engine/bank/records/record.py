"""One record as a file has it, or what is wrong with it; shared by the readers of every form of file."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, NamedTuple

from ....shards.bank.files import Reason

PIECE_BYTES = 1 << 20
MAX_NAME_CHARS = 1000
MAX_SOURCE_CHARS = 4000
EXCERPT_CHARS = 200
Columns = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Chunk:
    """A stretch of one file that one task reads."""

    file: int
    """Number of the file."""
    path: str
    start: int
    """First byte (jsonl: records that begin in the stretch), or row group (Parquet); csv and tars are read whole."""
    end: int


class Record(NamedTuple):
    """One record, or what is wrong with it."""

    row: int
    """Number in its chunk, from 0."""
    offset: int
    """Of its first byte in the file; -1 where there is none."""
    action: str
    """Empty where a fault hides it."""
    text: str
    source: str
    """Empty where there is none."""
    fault: tuple[Reason, str] | None = None
    """Reason and detail; then `text` is an excerpt of what came."""


def lines_of(file: BinaryIO, start: int, end: int, max_bytes: int) -> Iterator[tuple[int, int, bytes]]:
    """(offset, length, line) of the lines that begin in [start, end); of a longer one than allowed the first bytes."""
    offset = start
    if start:
        file.seek(start - 1)
        offset += _pass_line(file) - 1
    while offset < end:
        line = file.readline(max_bytes + 1)
        if not line:
            return
        size = len(line)
        if size > max_bytes and not line.endswith(b"\n"):
            size += _pass_line(file)
        yield offset, size, line
        offset += size


def _pass_line(file: BinaryIO) -> int:
    """Read to the end of a line, however long; returns how many bytes that was."""
    passed = 0
    while piece := file.readline(PIECE_BYTES):
        passed += len(piece)
        if piece.endswith(b"\n"):
            break
    return passed


def excerpt(data: bytes | str) -> str:
    """The beginning of what came, as text that can be stored."""
    if isinstance(data, bytes):
        data = data[: 4 * EXCERPT_CHARS].decode("utf-8", "backslashreplace")
    return data[:EXCERPT_CHARS].encode("utf-8", "backslashreplace").decode()[:EXCERPT_CHARS]


def too_long(row: int, offset: int, size: int, max_bytes: int, data: bytes) -> Record:
    """A record of more bytes than one may have."""
    detail = f"a record must have at most {max_bytes} bytes, got {size}"
    return Record(row, offset, "", excerpt(data), "", ("long_record", detail))


def not_text(row: int, offset: int, data: bytes, error: UnicodeDecodeError) -> Record:
    """A record that is no UTF-8."""
    detail = f"not UTF-8 at byte {error.start} of the record: {error.reason}"
    return Record(row, offset, "", excerpt(data), "", ("encoding", detail))


def record_of(row: int, offset: int, columns: Columns, action: Any, text: Any, source: Any) -> Record:
    """A record out of its three values, which may be anything."""
    if not isinstance(action, str) or not action.strip():
        came = "" if action is None else f", got {action!r:.80}"
        fault: tuple[Reason, str] = ("missing_action", f"`{columns[0]}` must be the name of an action{came}")
        return Record(row, offset, "", excerpt(text if isinstance(text, str) else ""), "", fault)
    shown = excerpt(action)
    if len(action) > MAX_NAME_CHARS:
        detail = f"`{columns[0]}` must have at most {MAX_NAME_CHARS} characters, got {len(action)}"
        return Record(row, offset, shown, "", "", ("missing_action", detail))
    if not isinstance(text, str):
        came = "" if text is None else f", got {text!r:.80}"
        return Record(row, offset, shown, "", "", ("missing_text", f"`{columns[1]}` must be text{came}"))
    source = "" if source is None else str(source)
    if len(source) > MAX_SOURCE_CHARS:
        detail = f"`{columns[2]}` must have at most {MAX_SOURCE_CHARS} characters, got {len(source)}"
        return Record(row, offset, shown, excerpt(text), "", ("long_record", detail))
    for name, value in zip(columns, (action, text, source), strict=True):
        if "\0" in value:
            return Record(row, offset, shown, excerpt(text), "", ("nul", f"`{name}` holds a NUL"))
        if not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError:
                fault = ("encoding", f"`{name}` holds half a surrogate pair")
                return Record(row, offset, shown, excerpt(text), "", fault)
    return Record(row, offset, action.strip(), text, source.strip())
