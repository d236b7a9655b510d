"""Word vectors out of a file: word2vec as text or binary, GloVe's text (it has no header), each also as .gz.

    word2vec text     a line `WORDS DIMENSIONS`, then a word and its numbers per line
    word2vec binary   the same first line, then per word: the word, a space, fp32 little-endian numbers, maybe a newline
    GloVe             a word and its numbers per line

The file is read once, front to back, and only the vectors of words that are wanted are kept, on disk. It is not
trusted: lines and words have a longest length, numbers must be finite, and an error names the line or the byte.

A word that is wanted takes the vector of its lower-case spelling; where the file has none, that of the first spelling
that differs in case alone ("Paris" for paris: files are sorted by frequency). Entries of several words ("New_York") and
words that are not UTF-8 are passed over.
"""

import gzip
import io
import re
from collections.abc import Iterator, Set
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ....shards.errors import UsageError

Format = Literal["word2vec text", "word2vec binary", "GloVe text"]
MAX_DIMENSIONS = 4096
MAX_LINE_BYTES = 1 << 20
MAX_WORD_BYTES = 4096
MAX_ENTRIES = 1 << 28
PEEK_BYTES = 1 << 20
READ_BYTES = 1 << 22
AT_A_TIME = 1024  # vectors that are turned into numbers at once
_HEADER = re.compile(rb"(\d{1,10}) (\d{1,5})[ \r]*\n")


class Entry(NamedTuple):
    """One word of the file, its numbers not yet read."""

    place: int
    """The line, or the byte in a binary file."""
    word: bytes
    numbers: bytes


@dataclass(frozen=True, slots=True)
class Found:
    """What a file had."""

    format: Format
    dimensions: int
    entries: int
    """Words of the file."""
    rows: dict[str, int]
    """Word → row of the kept vectors."""


def keep_vectors(path: Path, wanted: Set[str], kept: BinaryIO) -> Found:
    """Go through a file of word vectors and write those of `wanted` down.

    Args:
        path: of the file.
        wanted: lower-case words.
        kept: takes the vectors, dimensions fp32 numbers each; some may be of a spelling that another one replaced.

    Raises:
        UsageError: no file of one of the forms, or damaged; says where.
    """
    if not path.is_file():
        raise UsageError(f"vectors must be a file, but there is none at {path}")
    try:
        with _opened(path) as stream:
            form, dimensions, entries = _recognise(path, stream)
            chosen = _Chosen(path, dimensions, form, kept)
            exact = {word.encode("utf-8", "surrogatepass") for word in wanted}
            count = 0
            for entry in entries:
                count += 1
                if entry.word in exact:
                    chosen.add(entry, entry.word, exact=True)
                elif (word := _lower(entry.word)) in exact:
                    chosen.add(entry, word, exact=False)
            chosen.flush()
    except (OSError, EOFError) as error:
        raise UsageError(f"vectors {path} does not read: {error}") from error
    return Found(form, dimensions, count, {word.decode(): row for word, row in chosen.rows.items()})


@contextmanager
def _opened(path: Path) -> Iterator[io.BufferedReader]:
    if path.suffix == ".gz":
        with gzip.open(path) as unpacked:
            yield io.BufferedReader(cast(io.RawIOBase, unpacked), PEEK_BYTES)
    else:
        with path.open("rb", buffering=PEEK_BYTES) as file:
            yield cast(io.BufferedReader, file)


def _lower(word: bytes) -> bytes:
    if word.isascii():
        return word.lower()
    try:
        return word.decode().lower().encode()
    except UnicodeDecodeError:
        return b""


def _recognise(path: Path, stream: io.BufferedReader) -> tuple[Format, int, Iterator[Entry]]:
    head = _peek(stream)
    header = _HEADER.match(head)
    if header is None:
        first = head.partition(b"\n")[0]
        dimensions = len(first.split()) - 1
        if dimensions < 1 or not _is_line(head, dimensions):
            must = "a line 'WORDS DIMENSIONS' (word2vec) or a word and its numbers (GloVe)"
            raise UsageError(f"vectors {path} must begin with {must}, got {first[:80]!r}")
        _check_size(path, 1, dimensions)
        return "GloVe text", dimensions, _lines(path, stream, dimensions, None)
    count, dimensions = int(header[1]), int(header[2])
    _check_size(path, count, dimensions)
    stream.read(header.end())
    if _is_line(_peek(stream), dimensions):
        return "word2vec text", dimensions, _lines(path, stream, dimensions, count)
    return "word2vec binary", dimensions, _records(path, stream, dimensions, count, header.end())


def _peek(stream: io.BufferedReader) -> bytes:
    """What comes next, as much as the buffer holds; one read of an unpacked stream may give less than a line."""
    return stream.peek(PEEK_BYTES)


def _is_line(head: bytes, dimensions: int) -> bool:
    """Whether a text line with a word and so many numbers comes next."""
    line, newline, _ = head.partition(b"\n")
    fields = line.split()
    if (not newline and len(head) >= PEEK_BYTES) or len(fields) <= dimensions:
        return False
    try:
        return all(np.isfinite(float(each)) for each in fields[-dimensions:])
    except ValueError:
        return False


def _check_size(path: Path, count: int, dimensions: int) -> None:
    if not (1 <= count <= MAX_ENTRIES and 1 <= dimensions <= MAX_DIMENSIONS):
        raise UsageError(
            f"vectors {path} must have 1 to {MAX_ENTRIES} words of 1 to {MAX_DIMENSIONS} dimensions, got {count} of "
            f"{dimensions}"
        )


def _lines(path: Path, stream: io.BufferedReader, dimensions: int, count: int | None) -> Iterator[Entry]:
    first = 1 if count is None else 2
    place = first - 1
    while line := stream.readline(MAX_LINE_BYTES + 1):
        place += 1
        if len(line) > MAX_LINE_BYTES:
            raise UsageError(f"vectors {path}: line {place} must have at most {MAX_LINE_BYTES} bytes")
        line = line.rstrip(b" \r\n")
        spaces = line.count(b" ")
        if spaces < dimensions:
            raise _wrong_line(path, place, dimensions, line)
        if spaces == dimensions:
            word, _, numbers = line.partition(b" ")
            yield Entry(place, word, numbers)
        else:
            yield Entry(place, b"", b"")  # GloVe has words with spaces in them
    entries = place - first + 1
    if count is not None and entries != count:
        raise UsageError(f"vectors {path} must have {count} words as its first line says, got {entries}")


def _wrong_line(path: Path, place: int, dimensions: int, line: bytes) -> UsageError:
    return UsageError(
        f"vectors {path}: line {place} must be a word and {dimensions} finite numbers, got {line[:80]!r}"
        f"{'…' if len(line) > 80 else ''}"
    )


def _records(path: Path, stream: io.BufferedReader, dimensions: int, count: int, offset: int) -> Iterator[Entry]:
    size = 4 * dimensions
    data, at = b"", 0  # what was read ahead, and how far it is used up
    for number in range(count):
        if len(data) - at < MAX_WORD_BYTES + size + 2:
            data, at = data[at:] + stream.read(READ_BYTES), 0
        begin = at + (data[at : at + 1] == b"\n")
        space = data.find(b" ", begin, begin + MAX_WORD_BYTES)
        end = space + 1 + size
        if space < 0 or end > len(data):
            what = f"at most {MAX_WORD_BYTES} bytes, a space and {size} bytes of numbers"
            got = "no space comes" if space < 0 else f"the file ends {end - len(data)} bytes before"
            raise UsageError(f"vectors {path}: at byte {offset} word {number + 1} of {count} must be {what}, but {got}")
        yield Entry(offset, data[begin:space], data[space + 1 : end])
        offset += end - at
        at = end
    if data[at:].strip(b"\n") or stream.read(1):
        raise UsageError(f"vectors {path} must end at byte {offset}, after {count} words as its first line says")


@dataclass(slots=True)
class _Chosen:
    """Turns the numbers of chosen entries into fp32 rows."""

    path: Path
    dimensions: int
    form: Format
    kept: BinaryIO
    rows: dict[bytes, int] = field(default_factory=dict)
    _exact: set[bytes] = field(default_factory=set)
    _waiting: list[Entry] = field(default_factory=list)
    _written: int = 0

    def add(self, entry: Entry, word: bytes, *, exact: bool) -> None:
        """Take an entry, unless the word has one that is as good."""
        if word in self._exact or (word in self.rows and not exact):
            return
        if exact:
            self._exact.add(word)
        self.rows[word] = self._written + len(self._waiting)
        self._waiting.append(entry)
        if len(self._waiting) >= AT_A_TIME:
            self.flush()

    def flush(self) -> None:
        """Write down what waits."""
        vectors = self._numbers(self._waiting)
        wrong = None if vectors is not None and np.isfinite(vectors).all() else self._first_wrong()
        if wrong is not None:
            if self.form != "word2vec binary":
                raise _wrong_line(self.path, wrong.place, self.dimensions, wrong.word + b" " + wrong.numbers)
            raise UsageError(f"vectors {self.path}: at byte {wrong.place} the numbers of {wrong.word!r} must be finite")
        assert vectors is not None
        self.kept.write(vectors.astype("<f4").tobytes())
        self._written += len(self._waiting)
        self._waiting.clear()

    def _first_wrong(self) -> Entry | None:
        for entry in self._waiting:
            vector = self._numbers([entry])
            if vector is None or not np.isfinite(vector).all():
                return entry
        return None

    def _numbers(self, entries: list[Entry]) -> NDArray[np.float32] | None:
        """(N, D) fp32; None where something is no number."""
        if self.form == "word2vec binary":
            flat = np.frombuffer(b"".join(entry.numbers for entry in entries), "<f4")
            return np.asarray(flat.reshape(len(entries), self.dimensions))
        try:
            texts = pa.array([entry.numbers for entry in entries], pa.binary()).cast(pa.string())
            flat = pc.split_pattern(texts, " ").flatten().cast(pa.float32()).to_numpy()
        except pa.ArrowInvalid:
            return None
        return np.asarray(flat.reshape(len(entries), self.dimensions))
