"""Files made once per machine and kept up to a number of bytes, shared by every process that reads there."""

import fcntl
import os
import re
import secrets
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import UsageError
from .files import make_folder, storage_error

LOCKS = 64
"""Files that can be made at a time; names share them."""
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")


class DiskCache:
    """A folder of files by name; the one that was not asked for the longest goes first.

    A name must tell the content (say, by a hash in it): whoever finds a file under it takes it. What is open stays
    readable after it went.

    Args:
        folder: is made when the first file is.
        limit_bytes: of all files together, > 0.
    """

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        if limit_bytes <= 0:
            raise UsageError(f"the limit of the cache {folder} must be > 0 bytes, got {limit_bytes}")
        self.folder, self.limit_bytes = folder, limit_bytes

    def open(self, name: str, make: Callable[[Path], object]) -> int:
        """A descriptor of the file called `name`, to be closed by the caller.

        Args:
            name: letters, digits, dots, dashes and underscores.
            make: writes the file to a path where there is none; called by one process at a time.

        Raises:
            UsageError: the file alone is larger than the limit.
            StorageError: the disk refused.
        """
        if not _NAME.fullmatch(name):
            raise ValueError(f"name must match {_NAME.pattern}, got {name!r}")
        path = self.folder / name
        make_folder(self.folder)
        while True:
            with suppress(FileNotFoundError):
                descriptor = os.open(path, os.O_RDONLY)
                with suppress(FileNotFoundError):
                    os.utime(path)  # asked for now
                return descriptor
            with self._locked(f"{zlib.crc32(name.encode()) % LOCKS:02d}"):
                if not path.exists():
                    self._make(path, make)

    def _make(self, path: Path, make: Callable[[Path], object]) -> None:
        part = self.folder / f".{path.name}.{secrets.token_hex(4)}.part"
        try:
            make(part)
            size = part.stat().st_size
            if size > self.limit_bytes:
                raise UsageError(
                    f"the cache {self.folder} must hold {path.name} of {size} bytes, but its limit is "
                    f"{self.limit_bytes}; raise it"
                )
            self._make_room(size)
            part.rename(path)
        except OSError as error:
            raise storage_error(path, error) from error
        finally:
            part.unlink(missing_ok=True)

    def _make_room(self, size: int) -> None:
        with self._locked("room"):
            found = []
            for path in self.folder.iterdir():
                with suppress(FileNotFoundError):  # another process made room too
                    if not path.name.startswith("."):
                        status = path.stat()
                        found.append((status.st_mtime_ns, status.st_size, path))
            total = sum(its for _, its, _ in found) + size
            for _, its, path in sorted(found):
                if total <= self.limit_bytes:
                    break
                path.unlink(missing_ok=True)
                total -= its

    @contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        """One process, and one thread of it, at a time; a killed one's lock is gone with it."""
        path = self.folder / f".{name}.lock"
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise storage_error(path, error) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)
