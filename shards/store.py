"""Where the files of a dataset lie: in its folder, or behind a URL with a cache on this machine."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from .cache import DiskCache
from .errors import DamageError, UsageError
from .files import inside, sha256_of

Fetch = Callable[[str, Path], object]
"""Writes the bytes behind a URL to a path; a failure is one of `errors`."""


class Folder:
    """A local dataset."""

    def __init__(self, folder: Path) -> None:
        self.where = str(folder)
        self._folder = folder

    def open(self, relative: str, sha256: str) -> int:
        """A descriptor of a file of the dataset, to be closed by the caller.

        Args:
            relative: its path in the dataset.
            sha256: of its bytes; not looked at here: `verify` does, and every payload has a crc32.

        Raises:
            DamageError: the path leads out of the dataset, or the file cannot be opened.
        """
        path = inside(self._folder, relative)
        try:
            return os.open(path, os.O_RDONLY)
        except OSError as error:
            raise DamageError(f"{path} is listed in the dataset but cannot be opened: {error.strerror}") from error

    def read(self, relative: str) -> bytes:
        """A small file of the dataset whose hash nobody has told.

        Raises:
            UsageError: there is none.
            DamageError: the path leads out of the dataset.
        """
        path = inside(self._folder, relative)
        try:
            return path.read_bytes()
        except OSError as error:
            raise UsageError(f"{path} must be a file of the dataset, but: {error.strerror}") from None


class Remote:
    """A dataset behind a URL: every file is fetched whole when it is first read, and checked.

    Args:
        url: of the folder.
        cache: holds what was fetched, under the hashes of the files.
        fetch: fetches one file.
    """

    def __init__(self, url: str, cache: DiskCache, fetch: Fetch) -> None:
        self.where = url.rstrip("/")
        self._cache, self._fetch = cache, fetch

    def open(self, relative: str, sha256: str) -> int:
        """As `Folder.open`; waits for the fetch.

        Raises:
            DamageError: the path leads out of the dataset, or what is there is not what the manifest says.
        """
        inside(Path(self.where), relative)

        def make(path: Path) -> None:
            self._fetch(f"{self.where}/{relative}", path)
            if (got := sha256_of(path)) != sha256:
                raise DamageError(f"{self.where}/{relative} must have sha256 {sha256}, got {got}")

        return self._cache.open(f"{sha256}{PurePosixPath(relative).suffix}", make)

    def read(self, relative: str) -> bytes:
        """As `Folder.read`; fetched anew each time."""
        inside(Path(self.where), relative)
        with tempfile.TemporaryDirectory(prefix="reelmill-") as scratch:
            path = Path(scratch) / "file"
            self._fetch(f"{self.where}/{relative}", path)
            return path.read_bytes()


Store = Folder | Remote
