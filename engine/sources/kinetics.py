"""Kinetics-400, -600 and -700: the official csv lists of YouTube clips.

    label,youtube_id,time_start,time_end,split,is_cc
    testifying,---QUuC4vJs,84,94,validate,0

Test lists have no label column. Downloaders name the clip after its id and times with six digits,
`---QUuC4vJs_000084_000094.mp4`, flat, below the split or below the label (with spaces or underscores). The csv columns
are as the authors' release has them; lists of ViFi-CLIP and mmaction2 for Kinetics are read by `lists`.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...shards.errors import UsageError
from .asked import Asked, split_name, split_of
from .records import read_records
from .rows import InputRow, seconds

_COLUMNS = ("youtube_id", "time_start", "time_end")


def kinetics_rows(asked: Asked) -> Iterator[InputRow]:
    """A row per clip; its id is the stem of its file. The files are cut already: no row has a span."""
    for path in asked.lists("*.csv"):
        for number, record in enumerate(read_records(path), 1):
            yield _row(record, asked, path, f"{path}: row {number}")


def _row(record: dict[str, Any], asked: Asked, path: Path, where: str) -> InputRow:
    if not all(record.get(column) for column in _COLUMNS):
        raise UsageError(f"{where} must have {', '.join(_COLUMNS)}, got columns {', '.join(record)}")
    start, end = (int(seconds(record[column], column, where)) for column in _COLUMNS[1:])
    stem = f"{record['youtube_id']}_{start:06d}_{end:06d}"
    label, split = record.get("label") or "", record.get("split") or ""
    folders = dict.fromkeys(name for name in (label, label.replace(" ", "_"), split, split_name(split)) if name)
    found = asked.videos.locate(*(f"{folder}/{stem}.mp4" for folder in folders), f"{stem}.mp4")
    return InputRow(
        input_id=stem,
        path=found,
        uri=f"{stem}.mp4",
        labels=[label] if label else [],
        split=split_name(split) or split_of(path),
        extra={name: value for name, value in record.items() if name not in ("label", "split")},
    )
