"""A folder of videos: its files, or its folders of frames, in a stable order, through links but never in circles."""

import os
from collections import deque
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path, PurePosixPath

from ...shards.errors import UsageError
from .frames import word_of
from .rows import VIDEO_EXTENSIONS, InputRow


def walk(folder: Path) -> Iterator[str]:
    """The relative path of every file below a folder, in no particular order.

    Every real folder is entered once: first by its own path, then by links to folders outside. So links that lead in
    circles end, and no file is given twice.

    Raises:
        UsageError: a folder cannot be read; what lies in it would be lost silently.
    """
    seen: set[tuple[int, int]] = set()
    links: deque[str] = deque([""])
    while links:
        waiting = [links.popleft()]
        while waiting:
            relative = waiting.pop()
            try:
                status = os.stat(folder / relative)
                if (status.st_dev, status.st_ino) in seen:
                    continue
                seen.add((status.st_dev, status.st_ino))
                with os.scandir(folder / relative) as found:
                    entries = sorted(found, key=lambda entry: entry.name)
            except OSError as error:
                raise UsageError(f"folder {folder / relative} must be readable: {error.strerror}") from error
            for entry in entries:
                path = f"{relative}/{entry.name}" if relative else entry.name
                if not _is_folder(entry):
                    yield path
                elif entry.is_symlink():
                    links.append(path)
                else:
                    waiting.append(path)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself: a file that will turn out missing
        return False


def video_paths(folder: Path, *, frames: bool = False) -> tuple[list[str], int]:
    """The sorted relative paths of the videos below a folder, and how many other files lie there.

    Args:
        folder: to search.
        frames: whether folders of numbered JPEGs are videos, see `frames`; one's path is its folder's, "" for `folder`
            itself.
    """
    paths: list[str] = []
    ignored = 0
    for parent, files in groupby(walk(folder), os.path.dirname):  # the files of a folder come together
        videos, pictures, others = list[str](), 0, 0
        for path in files:
            if os.path.splitext(path)[1].lower() in VIDEO_EXTENSIONS:
                videos.append(path)
            elif frames and word_of(os.path.basename(path)) is not None:
                pictures += 1
            else:
                others += 1
        if pictures and not videos:
            videos, pictures = [parent], 0
        paths += videos
        ignored += others + pictures
    return sorted(paths), ignored


def folder_rows(folder: Path, paths: list[str]) -> Iterator[InputRow]:
    """A row per video, labelled with the first folder on its way.

    Also the form of Olympic Sports (16 class folders, `<class>/<clip>`), UCF101 and HMDB51 without their split lists:

        basketball_layup/v_9FJNKPbh1o4_0.avi
    """
    root = str(folder.absolute())
    for path in paths:
        shown = printable(path) or folder.absolute().name
        parts = PurePosixPath(shown).parts
        yield InputRow(shown, os.path.join(root, path), shown, [parts[0]] if len(parts) > 1 else [])


def printable(name: str) -> str:
    r"""A file's name as text that can be stored: bytes that are no UTF-8 are shown as \xff."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")
