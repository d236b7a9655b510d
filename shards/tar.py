"""Byte-deterministic WebDataset tars: plain USTAR, mtime 0, owner 0, fixed order, an index written alongside."""

import hashlib
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from .errors import UsageError
from .files import COPY_BYTES
from .index import index_bytes
from .schema import Member

BLOCK_BYTES = 512
MEMBER_LIMIT_BYTES = 8 << 30  # eleven octal digits in a USTAR header


class TarWriter:
    """Writes samples in the order given to an open binary file.

    The bytes depend on keys and payloads alone. The archive ends with two zero blocks and no record padding, and
    `index()` is byte for byte what DALI's wds2idx would write for it.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self._samples: list[tuple[str, list[Member]]] = []
        self.bytes = 0

    def add(self, key: str, parts: Mapping[str, bytes | Path]) -> list[Member]:
        """Append one sample; `parts` maps extension to payload or to a file that is copied.

        Raises:
            UsageError: a key with dots or slashes, or a payload of 8 GiB and more.
        """
        if not key or "." in key or "/" in key:
            raise UsageError(f"a sample key must hold no dot and no slash, got {key!r}")
        members = [self._add_member(key, ext, payload) for ext, payload in parts.items()]
        self._samples.append((key, members))
        return members

    def _add_member(self, key: str, ext: str, payload: bytes | Path) -> Member:
        size = payload.stat().st_size if isinstance(payload, Path) else len(payload)
        if size >= MEMBER_LIMIT_BYTES:
            raise UsageError(f"{key}.{ext} must be smaller than 8 GiB to fit a USTAR tar, got {size} bytes")
        self._put(_header(f"{key}.{ext}", size))
        offset, crc, written = self.bytes, 0, 0
        for piece in _pieces(payload):
            crc = zlib.crc32(piece, crc)
            written += len(piece)
            self._put(piece)
        if written != size:
            raise OSError(f"{key}.{ext} changed while it was copied: {size} bytes at first, then {written}")
        self._put(bytes(-size % BLOCK_BYTES))
        return Member(ext, offset, size, crc)

    def close(self) -> str:
        """End the archive; returns its sha256."""
        self._put(bytes(2 * BLOCK_BYTES))
        return self._hash.hexdigest()

    def index(self) -> bytes:
        """DALI's index v1.2 of what was added so far."""
        return index_bytes(self._samples)

    def _put(self, data: bytes) -> None:
        self._file.write(data)
        self._hash.update(data)
        self.bytes += len(data)


def _header(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime, info.uid, info.gid = size, 0o644, 0, 0, 0
    return info.tobuf(format=tarfile.USTAR_FORMAT, encoding="ascii", errors="strict")


def _pieces(payload: bytes | Path) -> Iterator[bytes]:
    if isinstance(payload, bytes):
        yield payload
        return
    with payload.open("rb") as file:
        while piece := file.read(COPY_BYTES):
            yield piece
