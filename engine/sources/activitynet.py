"""ActivityNet (and HACS, which ships the same form): untrimmed videos and one json with a `database`.

    {"database": {"sJn7Uu6hMZg": {"subset": "training", "duration": 55.15, "resolution": "320x240",
        "url": "https://…", "annotations": [{"segment": [0.28, 55.15], "label": "Drinking coffee"}]}, …},
     "taxonomy": […], "version": "VERSION 1.3"}

Videos are called `v_<id>.mp4` (or .mkv, .webm), or `<id>` alone. The testing subset has no annotations: its videos are
rows without a label. Some published segments are empty; they become rows with a fault.
"""

from collections.abc import Iterator
from typing import Any

from ...shards.errors import UsageError
from .asked import Asked, split_name
from .records import read_json
from .rows import InputRow, seconds, segment_row


def activitynet_rows(asked: Asked) -> Iterator[InputRow]:
    """A row per segment, with several labels where annotations share their times; or one per video (`whole_videos`)."""
    for path in asked.lists("*.json"):
        for video, entry in database(read_json(path), str(path)).items():
            where = f"{path}: video {video!r}"
            subset = entry.get("subset")
            segments = annotated(entry, where)
            found = asked.videos.locate(f"v_{video}.mp4", f"{video}.mp4")
            split = split_name(subset if isinstance(subset, str) else None)
            if asked.whole_videos or not segments:
                labels = [label for each in segments.values() for label in each]
                yield segment_row(video, found, None, name=video, labels=labels, split=split)
            else:
                for span, labels in segments.items():
                    yield segment_row(video, found, span, name=video, labels=labels, split=split)


def database(value: Any, where: str) -> dict[str, dict[str, Any]]:
    """The `database` of a json of this form.

    Raises:
        UsageError: it has none.
    """
    entries = value.get("database") if isinstance(value, dict) else None
    if not isinstance(entries, dict) or not all(isinstance(entry, dict) for entry in entries.values()):
        raise UsageError(f"{where} must be a json object with a `database` of videos")
    return entries


def annotated(entry: dict[str, Any], where: str) -> dict[tuple[float, float], list[str]]:
    """Labels by segment, in the unit that the file has (`annotations`, in IKEA ASM `annotation`).

    Raises:
        UsageError: an annotation has no label or no segment of two numbers.
    """
    segments: dict[tuple[float, float], list[str]] = {}
    annotations = entry.get("annotations", entry.get("annotation", []))
    for each in annotations if isinstance(annotations, list) else [annotations]:
        label, segment = (each.get("label"), each.get("segment")) if isinstance(each, dict) else (None, None)
        if not isinstance(label, str) or not isinstance(segment, list) or len(segment) != 2:
            raise UsageError(
                f"{where} must have annotations of a label and a segment [start, end], got {str(each)[:80]}"
            )
        span = (seconds(segment[0], "start", where), seconds(segment[1], "end", where))
        segments.setdefault(span, []).append(label)
    return segments
