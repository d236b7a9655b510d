"""Opening an input: which reader it needs, and the stream of its rows."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

from ...shards.errors import UsageError
from .activitynet import activitynet_rows
from .asked import Asked, split_name
from .charades import charades_rows
from .folder import folder_rows, video_paths
from .hmdb51 import hmdb51_rows
from .index import VideoIndex
from .kinetics import kinetics_rows
from .labels import read_label_map
from .lists import list_rows
from .records import MANIFEST_EXTENSIONS, read_records
from .rows import VIDEO_EXTENSIONS, InputRow, is_url, manifest_row
from .segments import segment_rows
from .ssv2 import ssv2_rows
from .tars import expand, is_tar_pattern, tar_rows, tars_of
from .ucf101 import ucf101_rows

Layout = Literal[
    "auto",
    "folder",
    "manifest",
    "webdataset",
    "list",
    "segments",
    "kinetics",
    "ucf101",
    "hmdb51",
    "ssv2",
    "charades",
    "activitynet",
    "olympic",
]

_DATASETS: dict[Layout, tuple[Callable[[Asked], Iterator[InputRow]], frozenset[str]]] = {
    "list": (list_rows, frozenset({"videos", "label_map"})),
    "segments": (segment_rows, frozenset({"videos", "label_map", "fps", "pattern", "whole_videos"})),
    "kinetics": (kinetics_rows, frozenset({"videos"})),
    "ucf101": (ucf101_rows, frozenset({"videos", "fold"})),
    "hmdb51": (hmdb51_rows, frozenset({"videos", "fold"})),
    "ssv2": (ssv2_rows, frozenset({"videos", "label_map"})),
    "charades": (charades_rows, frozenset({"videos", "label_map", "whole_videos"})),
    "activitynet": (activitynet_rows, frozenset({"videos", "whole_videos"})),
}
"""Reader and options of every layout that names its videos in lists."""
_OPTIONS = {name: options for name, (_, options) in _DATASETS.items()} | {"webdataset": frozenset({"label_map"})}

_Rows = Callable[["Source"], Iterator[InputRow]]


@dataclass(slots=True)
class Source:
    """The rows of an input, in a stable order; every iteration reads it anew."""

    name: str
    rows: _Rows
    split: str | None = None
    frames_fps: float | None = None
    ignored: int = 0
    """Files of an input folder that are not videos; known when an iteration has ended."""

    def __iter__(self) -> Iterator[InputRow]:
        """The rows.

        Raises:
            UsageError: nothing to read, or a row that means nothing.
        """
        found = 0
        for found, row in enumerate(map(self._framed, self.rows(self)), 1):
            _check_text(row, f"{self.name}: row {found}")
            if self.split is None:
                yield row
            elif split_name(row.split) in (None, self.split):
                yield replace(row, split=self.split)
        if not found:
            kinds = " ".join(sorted(VIDEO_EXTENSIONS))
            raise UsageError(
                f"input {self.name} must hold at least one video ({kinds}), got {self.ignored} other files; folders of "
                "numbered JPEGs are videos where their frame rate is given (frames_fps)"
            )

    def _framed(self, row: InputRow) -> InputRow:
        """A row that names a folder is one of frames."""
        if self.frames_fps is None or row.byte_range or is_url(row.path) or not os.path.isdir(row.path):
            return row
        return replace(row, frames_fps=self.frames_fps)


def open_source(
    input: str | Path,
    layout: Layout = "auto",
    *,
    videos: Path | None = None,
    split: str | None = None,
    label_map: Path | None = None,
    fold: int = 1,
    fps: float | None = None,
    pattern: str | None = None,
    whole_videos: bool = False,
    frames_fps: float | None = None,
    features: bool = False,
) -> Source:
    """Open an input for listing; memory stays small whatever its length.

    Args:
        input: a folder, a manifest, a list, a tar or a brace pattern of tars; a local path.
        layout: the form of `input`. "auto" tells folders, manifests (csv, tsv, jsonl, parquet) and tars apart; a
            dataset's own lists are read by the layout of its name, those of `<video> <class>` lines by "list", those of
            labelled stretches by "segments".
        videos: the folder of the videos that a list names (default: the list's own). A video that is not there is a row
            all the same.
        split: take this split alone. Rows that say no split belong to it.
        label_map: file that names class ids (list, segments, ssv2, charades, webdataset).
        fold: number of the official split (ucf101, hmdb51), from 1.
        fps: frames per second of the frame numbers in a list (segments).
        pattern: where a listed `{video}` lies below `videos` (segments).
        whole_videos: one row per video with all its labels, not one per stretch (segments, charades, activitynet).
        frames_fps: folders of numbered JPEGs are videos too, of so many frames per second (all but webdataset), see
            `frames`; then the lines of a "list" are `<folder> <frames> <class>`.
        features: samples of tars that hold features and no video are rows too, see `tars`.

    Raises:
        UsageError: nothing there, an unknown kind of file, or an option that the layout does not read.
    """
    path, layout = Path(input), _layout(str(input), layout)
    given = {
        "videos": videos is not None,
        "label_map": label_map is not None,
        "fold": fold != 1,
        "fps": fps is not None,
        "pattern": pattern is not None,
        "whole_videos": whole_videos,
    }
    if fold < 1:
        raise UsageError(f"fold must be >= 1, got {fold}")
    if fps is not None and not 0 < fps < 1e6:
        raise UsageError(f"fps must be > 0, got {fps}")
    if frames_fps is not None and layout == "webdataset":
        raise UsageError(f"frames_fps goes with folders of frames; {input} is read as webdataset")
    if pattern is not None and "{video}" not in pattern:
        raise UsageError(f"pattern must hold {{video}}, got {pattern!r}")
    for option in (name for name, is_given in given.items() if is_given and name not in _OPTIONS.get(layout, ())):
        readers = ", ".join(name for name, options in _OPTIONS.items() if option in options)
        raise UsageError(f"{option} goes with the layouts {readers}; {input} is read as {layout}")
    if layout != "webdataset" and not path.exists():
        raise UsageError(f"input {path} must be a folder or a manifest, but there is nothing")
    names = read_label_map(label_map) if label_map is not None else None
    frames = frames_fps is not None
    index = VideoIndex(videos if videos is not None else path if path.is_dir() else path.parent, frames=frames)
    asked = Asked(path, index, names, fold, fps, pattern, whole_videos, frames)
    return Source(str(input), _reader(layout, asked, str(input), features), split_name(split), frames_fps)


def _layout(text: str, layout: Layout) -> Layout:
    if layout not in get_args(Layout):
        raise UsageError(f"layout must be one of {', '.join(get_args(Layout))}, got {layout!r}")
    if "://" in text:
        raise UsageError(f"input must be a local path, got {text!r}: list remote videos in a manifest, one URL per row")
    if layout != "auto":
        return layout
    path = Path(text)
    if path.is_dir():
        return "auto"
    if is_tar_pattern(text):
        return "webdataset"
    if path.exists() and path.suffix.lower() not in MANIFEST_EXTENSIONS:
        kinds = ", ".join((*MANIFEST_EXTENSIONS, ".tar"))
        kind = path.suffix or "nameless"
        raise UsageError(f"input {path} must be a folder or a manifest ({kinds}), got a {kind} file; or say its layout")
    return "manifest"


def _reader(layout: Layout, asked: Asked, text: str, features: bool) -> _Rows:
    path = asked.input
    if layout in _DATASETS:
        return lambda _: _DATASETS[layout][0](asked)
    if layout == "manifest":
        return lambda _: _manifest(path)
    if layout == "webdataset" and not path.is_dir():
        return lambda _: tar_rows(expand(text), asked.label_map, features=features)
    if not path.is_dir():
        raise UsageError(f"input {path} must be a folder for the layout {layout}, got a file")
    return lambda source: _folder(source, layout, asked)


def _folder(source: Source, layout: Layout, asked: Asked) -> Iterator[InputRow]:
    """A folder of videos, or of tars where it is said or there are tars alone."""
    if layout != "webdataset":
        paths, source.ignored = video_paths(asked.input, frames=asked.frames)
        if paths or layout != "auto":
            yield from folder_rows(asked.input, paths)
            return
    tars, others = tars_of(asked.input)
    if tars:
        source.ignored = others
        yield from tar_rows(tars, asked.label_map)


def _manifest(path: Path) -> Iterator[InputRow]:
    folder, cells = str(path.parent.absolute()), path.suffix.lower() in (".csv", ".tsv")
    for number, record in enumerate(read_records(path), 1):
        yield manifest_row(record, folder, f"{path}: row {number}", cells=cells)


def _check_text(row: InputRow, where: str) -> None:
    """What is stored must be Unicode: half a surrogate pair, from a json escape, is none."""
    try:
        "\n".join((row.input_id, row.uri, row.caption or "", row.split or "", *row.labels)).encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"{where} must be valid Unicode, got {error.object[error.start : error.end]!r}") from None
    if "\0" in row.path:
        raise UsageError(f"{where} must not have a NUL byte in its path, got {row.path!r}")
