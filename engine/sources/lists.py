"""Lists of `<video> <class id>`, as mmaction2, ViFi-CLIP, SlowFast, UniFormer and others ship them.

    abseiling/-3B32lodo2M_000059_000069.mp4 0        mmaction2: kinetics400_train_list_videos.txt
    val/0wR5jVB-WPk_000417_000427.mp4 169            ViFi-CLIP: ids are those of its *_labels.csv
    some_video.mp4 1 3 5                             mmaction2, several classes
    path_to_video_1.mp4,12                           UniFormer, Video-FocalNets: train.csv without a header
    v_ApplyEyeMakeup_g01_c01.avi                     no class
    abseiling/-3B32lodo2M_000059_000069 300 0        mmaction2, TSN, BIKE: folder of frames, how many, classes

The last form is taken where folders of frames are asked for, of every line that names no file. Class ids need the
dataset's label map; in a list with commas the class may be a name.
"""

import os
from collections.abc import Iterator

from ...shards.errors import UsageError
from .asked import Asked, split_of
from .labels import class_name, csv_cells
from .records import read_lines
from .rows import InputRow, address, is_url

_HEADERS = ("path", "video", "video_path", "file", "filename", "video_name")


def list_rows(asked: Asked) -> Iterator[InputRow]:
    """A row per line; its id is the path as listed."""
    path = asked.input
    if not path.is_file():
        raise UsageError(f"input {path} must be a list of videos, got a folder")
    for number, line in read_lines(path):
        where = f"{path}:{number}:"
        name, classes = _commas(line, where) if path.suffix.lower() == ".csv" else _spaces(line)
        if number == 1 and name.lower() in _HEADERS:
            continue
        found = address(name, asked.videos.folder, where)
        path_found = found if is_url(found) else asked.videos.locate(name)
        frames = None
        if asked.frames and not is_url(found) and not os.path.isfile(path_found):
            frames, classes = _frame_count(classes, where)
        yield InputRow(
            input_id=name,
            path=path_found,
            uri=name,
            labels=[
                class_name(each, asked.label_map, where) if each.isdigit() or asked.label_map else each
                for each in dict.fromkeys(classes)
            ],
            split=split_of(path),
            frames=frames,
        )


def _frame_count(numbers: list[str], where: str) -> tuple[int, list[str]]:
    if not numbers or not numbers[0].isdigit() or int(numbers[0]) < 1:
        raise UsageError(f"{where} must be a folder, its number of frames >= 1, and classes, got {numbers or 'none'}")
    return int(numbers[0]), numbers[1:]


def _spaces(line: str) -> tuple[str, list[str]]:
    """Class ids are the numbers at the end; spaces before them belong to the name."""
    name, classes = line, list[str]()
    while (cut := name.rsplit(None, 1))[-1].isdigit() and len(cut) == 2:
        name = cut[0]
        classes.insert(0, cut[1])
    return name, classes


def _commas(line: str, where: str) -> tuple[str, list[str]]:
    name, *classes = csv_cells(line)
    if not name or not all(classes):
        raise UsageError(f"{where} must be a video and its classes, got {line!r}")
    return name, [each.strip() for each in classes]
