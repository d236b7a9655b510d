"""Lists of labelled stretches of untrimmed videos, in the forms in which smaller datasets ship them.

csv, tsv, jsonl, parquet, or a json list of objects, with a column for each of (one of the names each):

    video: video, path, video_id, video_name, file, filename, name        label: label, action, class, action_label
    seconds: start_seconds, start_time, t_start, start, and the same with end
    frames: start_frame and end_frame or stop_frame; so are start and end when `fps` is given

txt: `video,label,start,end` (or tabs) per line. A folder with a txt per video, called like it (`groundTruth/`):

    take                            GTEA, Breakfast, 50Salads, ATA in MS-TCN's form: the label of one frame per line
    1-30 SIL                        Breakfast's own
    <take><bread> (120-175) [1]     GTEA's own

json of ActivityNet's form with frames, IKEA ASM's `gt_segments.json` ({"database": {"Lack_TV_Bench/0007_…": {"subset":
"testing", "annotation": [{"label": "pick up leg", "segment": [92, 186]}]}}}), whose videos `pattern`
"{video}/dev3/images/scan_video.avi" finds. Frames count from 0 and include the last one; `fps` (or a column of that
name) turns them into seconds. ATA's own files were not at hand; its per-frame labels are assumed to be MS-TCN's form.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from ...shards.errors import UsageError
from .activitynet import annotated, database
from .asked import Asked, split_name, split_of
from .labels import class_name, csv_cells
from .records import MANIFEST_EXTENSIONS, read_json, read_lines, read_records
from .rows import InputRow, seconds, segment_row

_VIDEO = ("video", "path", "video_id", "video_name", "file", "filename", "name")
_LABEL = ("label", "action", "class", "action_label")
_SECONDS = (("start_seconds", "start_time", "t_start"), ("end_seconds", "end_time", "t_end"))
_FRAMES = (("start_frame",), ("end_frame", "stop_frame"))
_EITHER = (("start",), ("end",))
_RANGE = re.compile(r"(?P<start>\d+)-(?P<end>\d+)\s+(?P<label>\S.*)|(?P<name>.+?)\s*\((?P<from>\d+)-(?P<to>\d+)\).*")


@dataclass(frozen=True, slots=True)
class _Segment:
    video: str
    label: str
    span: tuple[float, float]
    split: str | None = None


def segment_rows(asked: Asked) -> Iterator[InputRow]:
    """A row per stretch, with several labels where neighbours share their times; or one per video (`whole_videos`).

    With `whole_videos` the segments of a video must follow each other in the list.
    """
    whole = asked.whole_videos
    for (video, span), group in groupby(_read(asked), key=lambda each: (each.video, None if whole else each.span)):
        segments = list(group)
        labels = [each.label for each in segments]
        if asked.label_map is not None:
            labels = [class_name(each, asked.label_map, f"{asked.input}: video {video!r}") for each in labels]
        listed = asked.pattern.replace("{video}", video) if asked.pattern else video
        path = asked.videos.locate(listed)
        yield segment_row(video, path, span, name=video, labels=labels, split=segments[0].split)


def _read(asked: Asked) -> Iterator[_Segment]:
    path = asked.input
    if path.is_dir():
        for each in asked.lists("*.txt"):
            yield from _one_video(each, asked)
    elif path.suffix.lower() in MANIFEST_EXTENSIONS:
        yield from _records(read_records(path), asked)
    elif path.suffix.lower() == ".json":
        value = read_json(path)
        yield from _records(value, asked) if isinstance(value, list) else _database(value, asked)
    else:
        yield from _table(asked)


def _records(records: Iterable[Any], asked: Asked) -> Iterator[_Segment]:
    for number, record in enumerate(records, 1):
        where = f"{asked.input}: row {number}"
        if not isinstance(record, dict):
            raise UsageError(f"{where} must be an object, got {str(record)[:80]}")
        video, label = _column(record, _VIDEO, where), _column(record, _LABEL, where)
        split = split_name(record.get("split") or record.get("subset")) or split_of(asked.input)
        yield _Segment(str(video), str(label), _span(record, asked, where), split)


def _span(record: Mapping[str, Any], asked: Asked, where: str) -> tuple[float, float]:
    fps = asked.fps
    if fps is None and record.get("fps") not in (None, ""):
        fps = seconds(record["fps"], "fps", where)
    if any(name in record for name in _FRAMES[0]):
        start, end = (_column(record, names, where) for names in _FRAMES)
    elif any(name in record for name in _SECONDS[0]):
        fps = None
        start, end = (_column(record, names, where) for names in _SECONDS)
        return seconds(start, "start", where), seconds(end, "end", where)
    else:
        start, end = (_column(record, names, where) for names in _EITHER)
        if fps is None:
            return seconds(start, "start", where), seconds(end, "end", where)
    return _in_seconds(seconds(start, "start", where), seconds(end, "end", where), fps, where)


def _in_seconds(first: float, last: float, fps: float | None, where: str) -> tuple[float, float]:
    if not fps:
        raise UsageError(f"{where} gives frames: say how many there are per second (fps)")
    return (first / fps, (last + 1) / fps if last >= first else last / fps)


def _column(record: Mapping[str, Any], names: tuple[str, ...], where: str) -> Any:
    found = next((record[name] for name in names if record.get(name) not in (None, "")), None)
    if found is None:
        raise UsageError(f"{where} must have a column {' or '.join(names)}, got {', '.join(map(str, record))}")
    return found


def _database(value: Any, asked: Asked) -> Iterator[_Segment]:
    for video, entry in database(value, str(asked.input)).items():
        where = f"{asked.input}: video {video!r}"
        subset = entry.get("subset")
        split = split_name(subset if isinstance(subset, str) else None)
        for (start, end), labels in annotated(entry, where).items():
            span = _in_seconds(start, end, asked.fps, where) if asked.fps else (start, end)
            for label in labels:
                yield _Segment(video, label, span, split)


def _table(asked: Asked) -> Iterator[_Segment]:
    for number, line in read_lines(asked.input):
        where = f"{asked.input}:{number}:"
        cells = [cell.strip() for cell in (line.split("\t") if "\t" in line else csv_cells(line))]
        if len(cells) != 4:
            raise UsageError(f"{where} must be video,label,start,end, got {line[:80]!r}")
        span = _span({"start": cells[2], "end": cells[3]}, asked, where)
        yield _Segment(cells[0], cells[1], span, split_of(asked.input))


def _one_video(path: Path, asked: Asked) -> Iterator[_Segment]:
    """The segments of a video out of the file called like it."""
    lines = [text for _, text in read_lines(path)]
    ranges = [_RANGE.fullmatch(line) for line in lines]
    if ranges and all(ranges):
        for each in filter(None, ranges):
            start, end = float(each["start"] or each["from"]), float(each["end"] or each["to"])
            yield _Segment(path.stem, each["label"] or each["name"], _in_seconds(start, end, asked.fps, str(path)))
        return
    first = 0
    for label, run in groupby(lines):
        last = first + sum(1 for _ in run) - 1
        yield _Segment(path.stem, label, _in_seconds(first, last, asked.fps, str(path)))
        first = last + 1
