"""Texts in Arrow files, read one by one where they lie: a text costs its own bytes, however many there are.

A file is memory-mapped for as long as it takes to find out where its batches are. The texts themselves come by `pread`
out of the page cache, which processes share: a kernel that keeps files in large folios maps 2 MB around every place
that is touched, so a process that draws from everywhere would come to hold whole files. What `bank add` takes away
stays readable here, as the files stay open.

The files are not trusted: where a text begins and ends is held against the bytes that there are.
"""

import mmap
import os
import struct
from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from ..errors import DamageError

_BATCHES_HELD = 8
_ENDS = struct.Struct("<2i")


class _Batch(NamedTuple):
    """Where the first column of a batch lies in its file."""

    descriptor: int
    ends: int
    """Byte of the int32 places where texts end, with a 0 before the first."""
    data: int
    """Byte of the texts."""
    size: int
    """Bytes of the texts."""


class TextFiles:
    """Open Arrow files whose first column is a text; rows are counted through them."""

    def __init__(self) -> None:
        self._descriptors: list[int] = []
        self._batches: list[_Batch] = []
        self._starts: list[int] = []
        self.rows = 0

    def open(self, path: Path) -> "TextFile":
        """Open a file; what it holds is told to `TextFile.add`.

        Raises:
            DamageError: it does not read.
        """
        try:
            self._descriptors.append(os.open(path, os.O_RDONLY))
            return TextFile(self, self._descriptors[-1])
        except (OSError, ValueError) as error:  # an empty file cannot be mapped
            raise DamageError(f"{path} does not read: {error}") from error

    def take(self, batch: _Batch, rows: int) -> None:
        """Count the rows of a batch."""
        self._batches.append(batch)
        self._starts.append(self.rows)
        self.rows += rows

    def text(self, row: int) -> str:
        """The text of a row.

        Raises:
            DamageError: it lies outside of its file, or is not UTF-8.
        """
        number = bisect_right(self._starts, row) - 1
        descriptor, ends, data, size = self._batches[number]
        try:
            begin, end = _ENDS.unpack(os.pread(descriptor, _ENDS.size, ends + 4 * (row - self._starts[number])))
            if not 0 <= begin <= end <= size:
                raise DamageError(f"text {row} of a bank must lie in {size} bytes, got {begin} to {end}")
            text = os.pread(descriptor, end - begin, data + begin)
        except (OSError, struct.error) as error:
            raise DamageError(f"text {row} of a bank does not read: {error}") from error
        if len(text) != end - begin:
            raise DamageError(
                f"text {row} of a bank must have {end - begin} bytes, but its file ends after {len(text)}"
            )
        try:
            return text.decode()
        except UnicodeDecodeError as error:
            raise DamageError(f"text {row} of a bank is not UTF-8: {error}") from error

    def __del__(self) -> None:
        for descriptor in self._descriptors:
            os.close(descriptor)


class TextFile:
    """A file with one or more Arrow files in it, memory-mapped while their batches are looked up."""

    def __init__(self, files: TextFiles, descriptor: int) -> None:
        self._files, self._descriptor = files, descriptor
        self._map = mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
        self._content = pa.py_buffer(self._map)
        self._looked_up = 0

    def add(self, schema: pa.Schema, where: str, name: str, *, begin: int = 0, size: int | None = None) -> int:
        """Take the rows of an Arrow file; returns how many.

        Args:
            schema: what it must have; the first field is a string.
            where: the bank or the tar, in errors.
            name: of the file there.
            begin: its first byte.
            size: its bytes; None for all that follow.

        Raises:
            DamageError: it does not read, or holds something else.
        """
        before = self._files.rows
        try:
            file = pa.ipc.open_file(pa.BufferReader(self._content.slice(begin, size)))
            if not file.schema.equals(schema):
                raise DamageError(f"{where}: {name} must hold texts, got {file.schema}")
            for number in range(file.num_record_batches):
                batch = file.get_batch(number)
                if batch.num_rows:
                    self._files.take(self._look_up(batch.column(0), f"{where}: {name}"), batch.num_rows)
                self._looked_up += 1
                if self._looked_up % _BATCHES_HELD == 0:
                    self._map.madvise(mmap.MADV_DONTNEED)
        except (OSError, pa.ArrowException) as error:
            raise DamageError(f"{where} does not read: {name}: {error}") from error
        return self._files.rows - before

    def _look_up(self, texts: pa.StringArray, where: str) -> _Batch:
        nulls, ends, data = texts.buffers()
        places = [each.address - self._content.address if each else 0 for each in (ends, data)]
        sizes = [each.size if each else 0 for each in (ends, data)]
        inside = all(p >= 0 and p + s <= self._content.size for p, s in zip(places, sizes, strict=True))
        if nulls or texts.offset or not inside or sizes[0] < 4 * (len(texts) + 1):
            raise DamageError(f"{where} must have whole batches that are not compressed, without nulls among the texts")
        return _Batch(self._descriptor, places[0], places[1], sizes[1])


class FileTexts(Sequence[str]):
    """Consecutive rows of `TextFiles`: the texts of one action."""

    def __init__(self, files: TextFiles, first: int, rows: int) -> None:
        self._files, self._first, self._rows = files, first, rows

    def __len__(self) -> int:
        return self._rows

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self._rows))]
        if index < 0:
            index += self._rows
        if not 0 <= index < self._rows:
            raise IndexError(f"text must be one of {self._rows}, got {index}")
        return self._files.text(self._first + index)
