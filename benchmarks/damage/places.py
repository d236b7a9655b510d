"""What a file system can put under a video's name that is no plain file."""

import os
import stat
from collections.abc import Callable
from pathlib import Path

from .kinds import UNREADABLE, Draw, Kind, Outcome
from .media import encode

MISSING = Outcome("failed", "missing")


def _kind(name: str, file: str, why: str, write: Callable[[Path, Draw], None], expect: Outcome | None) -> Kind:
    return Kind(name=name, file=file, why=why, write=write, expect=expect)


def _folder(path: Path, draw: Draw) -> None:
    path.mkdir()
    (path / "note.txt").write_text("a folder")


def _link(target: str) -> Callable[[Path, Draw], None]:
    def write(path: Path, draw: Draw) -> None:
        path.symlink_to(target)

    return write


def _fifo(path: Path, draw: Draw) -> None:
    os.mkfifo(path)


def _socket(path: Path, draw: Draw) -> None:
    os.mknod(path, stat.S_IFSOCK | 0o600)


def _locked(path: Path, draw: Draw) -> None:
    path.write_bytes(encode(draw))
    path.chmod(0)


KINDS = (
    _kind("folder", "folder.mp4", "A folder under a video's name is a folder.", _folder, None),
    _kind("dangling-link", "dangling.mp4", "A link to nothing.", _link("nowhere.mp4"), MISSING),
    _kind("looping-link", "loop.mp4", "A link to itself.", _link("loop.mp4"), UNREADABLE),
    _kind("device-link", "device.mp4", "A link to a device that never ends.", _link("/dev/zero"), UNREADABLE),
    _kind("fifo", "fifo.mp4", "A named pipe: whoever opens it waits for ever.", _fifo, UNREADABLE),
    _kind("socket", "socket.mp4", "A socket.", _socket, UNREADABLE),
    _kind("locked", "locked.mp4", "Nobody may read it.", _locked, UNREADABLE),
)
