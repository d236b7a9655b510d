"""Charades: `<id>.mp4` and a csv per split whose column `actions` holds the segments.

    id,subject,scene,quality,relevance,verified,script,objects,descriptions,actions,length
    46GP8,HR43,Kitchen,6,7,Yes,"A person …","food;stove","A person cooks.","c092 11.90 21.20;c147 0.00 12.60",24.83

Class ids are named by `Charades_v1_classes.txt` (`c000 Holding some clothes`), taken from beside the csv when no label
map is given. Columns as the authors' release has them.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...shards.errors import UsageError
from .asked import Asked, split_of
from .labels import class_name, read_label_map
from .records import read_records
from .rows import InputRow, seconds, segment_row

_CLASSES = "Charades_v1_classes.txt"


def charades_rows(asked: Asked) -> Iterator[InputRow]:
    """A row per segment, with several labels where actions share their times; or one per video (`whole_videos`)."""
    for path in asked.lists("Charades*train.csv", "Charades*test.csv"):
        beside = path.parent / _CLASSES
        names = asked.label_map or (read_label_map(beside) if beside.is_file() else None)
        for number, record in enumerate(read_records(path), 1):
            yield from _video(record, names, asked, path, f"{path}: row {number}")


def _video(
    record: dict[str, Any], names: dict[str, str] | None, asked: Asked, path: Path, where: str
) -> Iterator[InputRow]:
    if not record.get("id") or "actions" not in record:
        raise UsageError(f"{where} must have columns id and actions, got {', '.join(record)}")
    video = str(record["id"])
    found = asked.videos.locate(f"{video}.mp4")
    segments = _segments(record["actions"] or "", names, where)
    if asked.whole_videos or not segments:
        labels = [label for each in segments.values() for label in each]
        extra = {name: value for name, value in record.items() if name not in ("id", "descriptions")}
        caption = record.get("descriptions") or None
        yield segment_row(
            video, found, None, name=video, labels=labels, caption=caption, split=split_of(path), extra=extra
        )
        return
    extra = {name: record[name] for name in ("subject", "scene") if record.get(name)}
    for span, labels in segments.items():
        yield segment_row(video, found, span, name=video, labels=labels, split=split_of(path), extra=extra)


def _segments(actions: str, names: dict[str, str] | None, where: str) -> dict[tuple[float, float], list[str]]:
    segments: dict[tuple[float, float], list[str]] = {}
    for text in filter(None, (part.strip() for part in actions.split(";"))):
        parts = text.split()
        if len(parts) != 3:
            raise UsageError(f"{where} must have actions like `c092 11.90 21.20`, got {text!r}")
        span = (seconds(parts[1], "start", where), seconds(parts[2], "end", where))
        segments.setdefault(span, []).append(class_name(parts[0], names, where))
    return segments
