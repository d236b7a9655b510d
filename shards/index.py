"""DALI's index of a tar, v1.2: a count, then one line per sample: `ext offset size name`, repeated."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from .errors import DamageError
from .schema import Member

VERSION = "v1.2"


class IndexEntry(NamedTuple):
    """One file of one sample."""

    ext: str
    offset: int
    size: int
    name: str


def index_bytes(samples: Sequence[tuple[str, Sequence[Member]]]) -> bytes:
    """The index of samples given as (key, members), in tar order."""
    lines = [f"{VERSION} {len(samples)}"]
    lines += [" ".join(f"{m.ext} {m.offset} {m.size} {key}.{m.ext}" for m in members) for key, members in samples]
    return ("\n".join(lines) + "\n").encode("ascii")


def read_index(path: Path, tar_bytes: int) -> list[list[IndexEntry]]:
    """Read an index and hold every entry against the size of its tar.

    DALI follows an index without looking and crashes on one that points past the end, so nothing unchecked gets there.

    Raises:
        DamageError: not an index, or an entry outside the tar.
    """
    try:
        head, *lines = path.read_text("ascii").splitlines()
        version, count = head.split()
        samples = [_parse_line(line) for line in lines]
    except (ValueError, UnicodeDecodeError) as error:
        raise DamageError(f"{path} must be a DALI index {VERSION}, but cannot be read: {error}") from error
    if version != VERSION or int(count) != len(samples):
        raise DamageError(f"{path} must start with '{VERSION} {len(samples)}' (its line count), got {head!r}")
    for entry in (entry for sample in samples for entry in sample):
        if entry.offset < 0 or entry.size < 0 or entry.offset + entry.size > tar_bytes:
            raise DamageError(
                f"{path}: {entry.name} at {entry.offset}+{entry.size} lies outside its {tar_bytes}-byte tar"
            )
    return samples


def _parse_line(line: str) -> list[IndexEntry]:
    fields = line.split(" ")
    if len(fields) % 4:
        raise ValueError(f"a line must hold groups of 4 fields, got {len(fields)}")
    groups = (fields[i : i + 4] for i in range(0, len(fields), 4))
    return [IndexEntry(ext, int(offset), int(size), name) for ext, offset, size, name in groups]
