"""One input as a local file: itself, a download, its stretch of a tar, or its frames packed into one; and a cheap word
for whether it changed.
"""

import os
import re
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from ..shards.errors import ReelmillError, UsageError
from ..shards.files import COPY_BYTES, make_folder, storage_error
from ..shards.ledger import REASONS, Reason
from . import remote
from .errors import MediaError
from .media.pack import pack
from .sources import VIDEO_EXTENSIONS, InputRow, is_url
from .sources.frames import FrameFolder, open_frames

MAX_FILE_BYTES = 1 << 40
FILE_SECONDS = 3600.0


def version_of(path: str, *, frames: bool = False, timeout_seconds: float = 60.0) -> str:
    """What tells one state of an input from another, without reading it.

    Args:
        path: of an `InputRow`: a local path or a URL.
        frames: whether it is a folder of frames.
        timeout_seconds: for a URL, over all tries.

    Returns:
        `size:mtime_ns` of a local file; of a folder of frames, what their names, sizes and times come to; the etag of a
        URL, else its size and modification date.

    Raises:
        MediaError: "missing", "unreadable" or "network"; of a folder of frames, what `open_frames` raises.
        UsageError: the package that reads such URLs is not installed.
    """
    if frames:
        return open_frames(path).version
    if is_url(path):
        return remote.look(path, timeout_seconds).version
    status = _status(path)
    return f"{status.st_size}:{status.st_mtime_ns}"


@contextmanager
def local_copy(
    row: InputRow, scratch: Path, *, max_bytes: int, timeout_seconds: float = 600.0, version: str | None = None
) -> Iterator[Path]:
    """The video of a row as a local file for the block, under its own extension; a copy goes when the block ends.

    Frames are packed into one, see `media.pack`.

    Args:
        row: the input.
        scratch: folder for copies; made where it is not there.
        max_bytes: of the video.
        timeout_seconds: of a download, over all tries.
        version: what `version_of` said; a URL that says otherwise now is not taken.

    Raises:
        MediaError: "missing", "unreadable", "network"; "limit" for more than `max_bytes`; "changed"; "damaged" for a
            byte range beyond the file's end; whatever the row's own fault is; of frames, what `open_frames` and `pack`
            raise.
        UsageError: the package that reads such URLs is not installed.
        StorageError: the scratch disk refused.
    """
    if row.fault is not None:
        reason, _, detail = row.fault.partition(": ")
        assert reason in REASONS, row.fault
        raise MediaError(cast(Reason, reason), detail)
    if row.frames_fps is not None:
        folder = _frames_of(row, max_bytes)
        with _temporary(scratch, ".mkv") as path:
            try:
                pack(folder, str(path), fps=row.frames_fps)
            except OSError as error:
                raise storage_error(path, error) from error
            yield path
        return
    local = not is_url(row.path)
    size = row.byte_range[1] if row.byte_range is not None else _status(row.path).st_size if local else 0
    if size > max_bytes:
        raise MediaError("limit", f"{size} bytes, at most {max_bytes} are taken")
    if local and row.byte_range is None:
        yield Path(row.path)
        return
    with _temporary(scratch, _extension(row)) as path:
        if row.byte_range is not None and local:
            _cut_out(row.path, row.byte_range, path)
        else:
            remote.download(remote.Wanted(row.path, row.byte_range, max_bytes, version), path, timeout_seconds)
        yield path


def _frames_of(row: InputRow, max_bytes: int) -> FrameFolder:
    """The frames that are the video; a list may say how many."""
    folder = open_frames(row.path)
    if row.frames is not None:
        if len(folder.frames) < row.frames:
            raise MediaError("damaged", f"{len(folder.frames)} frames in the folder, {row.frames} by the list")
        folder = FrameFolder(folder.path, folder.frames[: row.frames])
    if folder.bytes > max_bytes:
        raise MediaError("limit", f"{folder.bytes} bytes, at most {max_bytes} are taken")
    return folder


def fetch_file(url: str, path: Path) -> None:
    """Write a file of a dataset behind a URL to `path`.

    Raises:
        UsageError: there is none, or the package that reads such URLs is not installed.
        ReelmillError: it could not be read.
        StorageError: the disk refused.
    """
    try:
        remote.download(remote.Wanted(url, None, MAX_FILE_BYTES, None), path, FILE_SECONDS)
    except MediaError as error:
        if error.reason == "missing":
            raise UsageError(f"{url} must be a file of a dataset, but there is none: {error.detail}") from None
        raise ReelmillError(f"{url} could not be read: {error.detail}") from error


def _status(path: str) -> os.stat_result:
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        raise MediaError("missing", "no such file") from None
    except (OSError, ValueError) as error:
        raise MediaError("unreadable", getattr(error, "strerror", None) or str(error)) from None
    if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for ever, /dev/zero never ends
        kind = "a folder (of frames? give frames_fps)" if stat.S_ISDIR(status.st_mode) else "neither file nor folder"
        raise MediaError("unreadable", f"must be a file, but is {kind}")
    return status


def _extension(row: InputRow) -> str:
    """The extension of the video, also inside a tar or before a URL's query; none where it is not a video's."""
    name = row.uri if row.byte_range is not None else re.split("[?#]", row.path)[0]
    extension = os.path.splitext(name)[1].lower()
    return extension if extension in VIDEO_EXTENSIONS else ""


@contextmanager
def _temporary(scratch: Path, extension: str) -> Iterator[Path]:
    make_folder(scratch)
    try:
        descriptor, name = tempfile.mkstemp(suffix=extension, dir=scratch)
    except OSError as error:
        raise storage_error(scratch, error) from error
    os.close(descriptor)
    path = Path(name)
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def _cut_out(source: str, byte_range: tuple[int, int], path: Path) -> None:
    offset, left = byte_range
    _status(source)
    try:
        whole = open(source, "rb")  # noqa: SIM115 (closed below)
    except OSError as error:
        raise MediaError("unreadable", error.strerror or str(error)) from None
    with whole, open(path, "wb") as file:
        whole.seek(offset)
        while left:
            piece = _read(whole, min(left, COPY_BYTES))
            if not piece:
                raise MediaError("damaged", f"the file ends {left} bytes before the end of this video")
            left -= len(piece)
            try:
                file.write(piece)
                file.flush()
            except OSError as error:
                raise storage_error(path, error) from error


def _read(file: BinaryIO, size: int) -> bytes:
    try:
        return file.read(size)
    except OSError as error:
        raise MediaError("unreadable", error.strerror or str(error)) from None
