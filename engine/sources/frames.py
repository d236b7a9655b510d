"""Folders of numbered JPEGs, each a video whose frames were taken out before, as TSN, mmaction2 (`rawframes`), BIKE and
Something-Something's users keep them.

    abseiling/-3B32lodo2M_000059_000069/img_00001.jpg  img_00002.jpg  …  flow_x_00001.jpg  flow_y_00001.jpg

A folder is one when it holds files called `<word><number>.jpg` (or .jpeg), with one word for all, and no video. What
begins with `flow` is optical flow and no frame. Numbers begin anywhere and go up by the same step; a step left out is a
frame that is lost.
"""

import hashlib
import os
import re
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from ..errors import MediaError
from ..media.limits import MAX_FOLDER_FRAMES

_FRAME = re.compile(r"(.*?)([0-9]+)\.jpe?g", re.IGNORECASE)


class Frame(NamedTuple):
    """One file of a folder."""

    number: int
    name: str
    bytes: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class FrameFolder:
    """The frames of a video, in order."""

    path: str
    frames: list[Frame]

    @property
    def bytes(self) -> int:
        """Of all frames."""
        return sum(frame.bytes for frame in self.frames)

    @property
    def version(self) -> str:
        """Tells one state of the folder from another: `frames:bytes:digest of names, sizes and times`."""
        digest = hashlib.blake2b(digest_size=16)
        for frame in self.frames:
            digest.update(os.fsencode(f"{frame.name}\0{frame.bytes}:{frame.mtime_ns}\0"))
        return f"{len(self.frames)}:{self.bytes}:{digest.hexdigest()}"


def word_of(name: str) -> str | None:
    """What stands before the number in a frame's name; None for any other file."""
    found = _FRAME.fullmatch(name)
    return None if found is None or found[1].lower().startswith("flow") else found[1]


def open_frames(path: str) -> FrameFolder:
    """Look at the files of a folder; reads none.

    Raises:
        MediaError: "missing", "unreadable"; "empty" without a frame; "limit" for more than MAX_FOLDER_FRAMES;
            "damaged" where the names tell that a frame is lost, or not which ones are meant.
    """
    frames: list[Frame] = []
    words: dict[str, str] = {}
    try:
        inside = os.path.realpath(path)
        with os.scandir(path) as entries:
            for entry in entries:
                word = word_of(entry.name)
                if word is None:
                    continue
                words.setdefault(word, entry.name)
                frames.append(_frame(entry, inside))
                if len(frames) > MAX_FOLDER_FRAMES:
                    raise MediaError("limit", f"more than {MAX_FOLDER_FRAMES} frames in a folder")
    except (FileNotFoundError, NotADirectoryError):
        raise MediaError("missing", "no such folder") from None
    except (OSError, ValueError) as error:
        raise MediaError("unreadable", getattr(error, "strerror", None) or str(error)) from None
    if not frames:
        raise MediaError("empty", "the folder holds no numbered JPEG")
    if len(words) > 1:
        one, other, *_ = sorted(words.values())
        raise MediaError("damaged", f"frames must be named alike but for their number, got {one} and {other}")
    frames.sort()
    _check_numbers(frames)
    return FrameFolder(path, frames)


def _frame(entry: os.DirEntry[str], inside: str) -> Frame:
    if entry.is_symlink() and os.path.dirname(os.path.realpath(entry.path)) != inside:
        raise MediaError("unreadable", f"{entry.name} is a link out of its folder")
    if not entry.is_file():
        raise MediaError("unreadable", f"{entry.name} must be a file")
    status = entry.stat()
    if not status.st_size:
        raise MediaError("damaged", f"{entry.name} has 0 bytes")
    found = _FRAME.fullmatch(entry.name)
    assert found is not None
    return Frame(int(found[2]), entry.name, status.st_size, status.st_mtime_ns)


def _check_numbers(frames: list[Frame]) -> None:
    step = min((after.number - before.number for before, after in pairwise(frames)), default=1)
    for before, after in pairwise(frames):
        if not step and after.number == before.number:
            raise MediaError("damaged", f"{before.name} and {after.name} have one number")
        if step and after.number - before.number != step:
            raise MediaError("damaged", f"after {before.name} comes {after.name}: frames are missing")
