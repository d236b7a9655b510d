"""Where the videos lie that a list names: by path, or by name under another folder or extension."""

import os
from array import array
from bisect import bisect_left
from pathlib import Path

import numpy as np

from ...shards.errors import UsageError
from .folder import video_paths
from .rows import VIDEO_EXTENSIONS


class VideoIndex:
    """The videos of a folder, walked once, when the first one is asked for; some 120 bytes for each.

    Args:
        folder: of the videos.
        frames: whether folders of numbered JPEGs are videos.
    """

    def __init__(self, folder: Path, *, frames: bool = False) -> None:
        self.folder, self._frames = str(folder.absolute()), frames
        self._paths: list[str] | None = None
        self._keys = array("q")  # hashes of the names, sorted; bisect is faster on it than on a numpy array
        self._order = array("q")

    def locate(self, *names: str) -> str:
        """The absolute path of the video that a list calls by one of `names`, best first.

        A name is a relative path with or without an extension. It finds a video of the same stem whose folders agree
        with it as far as both go: `val/abc.mp4` finds `val/abc.webm`, `abc.mp4` and `k400/val/abc.mp4`, not
        `train/abc.mp4`. Where nothing is found the last name is given back as a path that does not exist, so that the
        video ends as missing.

        Raises:
            UsageError: the name fits videos in several folders.
        """
        for name in names:
            if os.path.isabs(name):
                if os.path.commonpath([name, self.folder]) != self.folder:
                    return name
                name = os.path.relpath(name, self.folder)
            name = os.path.normpath(name)
            if not name.startswith("..") and (found := self._find(name)) is not None:
                return os.path.join(self.folder, found)
        return os.path.join(self.folder, names[-1])

    def _find(self, name: str) -> str | None:
        stem, extension = _split(name)
        fitting = [path for path in self._namesakes(stem) if _agree(_split(path)[0], stem)]
        if len(fitting) > 1:
            fitting = [path for path in fitting if _split(path)[0] == stem] or fitting
            if len({_split(path)[0] for path in fitting}) > 1:
                raise UsageError(
                    f"videos {self.folder} must hold one video called {name}, got {fitting[0]} and {fitting[-1]}: "
                    "give the folder that holds the right one"
                )
        return next((path for path in fitting if path == stem + extension), fitting[0] if fitting else None)

    def _namesakes(self, stem: str) -> list[str]:
        """Every video that may have this file name, whatever its folder and extension, in order."""
        paths = self._load()
        key = hash(stem.rpartition("/")[2])
        found = []
        for place in range(bisect_left(self._keys, key), len(self._keys)):
            if self._keys[place] != key:
                break
            found.append(paths[self._order[place]])
        return found

    def _load(self) -> list[str]:
        if self._paths is None:
            if not os.path.isdir(self.folder):
                raise UsageError(f"videos must be a folder, got {self.folder}")
            self._paths, _ = video_paths(Path(self.folder), frames=self._frames)
            stems = (_split(path)[0].rpartition("/")[2] for path in self._paths)
            keys = np.fromiter(map(hash, stems), np.int64, len(self._paths))
            order = np.argsort(keys, kind="stable")
            self._order.frombytes(order.tobytes())
            self._keys.frombytes(keys[order].tobytes())
        return self._paths


def _split(path: str) -> tuple[str, str]:
    """A path without its video extension, and that extension; other dots belong to the name."""
    stem, extension = os.path.splitext(path)
    return (stem, extension) if extension.lower() in VIDEO_EXTENSIONS else (path, "")


def _agree(one: str, other: str) -> bool:
    """Whether the shorter of two paths is the end of the longer."""
    return f"/{one}".endswith(f"/{other}") or f"/{other}".endswith(f"/{one}")
