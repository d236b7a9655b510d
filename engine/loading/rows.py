"""What a row of a shard's table must hold before anything is done by it: tables come from elsewhere, as videos do."""

import re
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from ..media.limits import MAX_PACKETS, MAX_PIXEL_ASPECT, is_size

TURNS = (0, 90, 180, 270)
TIME_BASE = re.compile(r"[1-9][0-9]{0,9}(/[1-9][0-9]{0,9})?", re.ASCII)  # of two numbers of 32 bits
LISTED = 10_000
"""Members or labels of one sample at most."""
HARMLESS: dict[str, Any] = {
    "key": "",
    "members": [{"ext": "", "offset": -1, "size": 0, "crc32": 0}],
    "labels": [],
    "action_id": None,
    "caption": None,
    "codec": "",
    "width": 1,
    "height": 1,
    "pixel_aspect": 1.0,
    "rotation": 0,
    "time_base": "1/1",
    "frames": 1,
}


def row_of(table: pa.Table, place: int) -> dict[str, Any]:
    """One row without its packets.

    Args:
        table: of `schema.SAMPLE`.
        place: of the row.

    Raises:
        ValueError: it holds text that is none, or lists that are too long to be made into objects.
        IndexError: there is no such row.
    """
    cells = {name: table.column(name)[place] for name in table.column_names if name != "packets"}
    for name in ("members", "labels"):
        if cells[name].is_valid and len(cells[name]) > LISTED:
            raise ValueError(f"the table may give a sample at most {LISTED} {name}, got {len(cells[name])}")
    return {name: cell.as_py() for name, cell in cells.items()}


def check_row(row: Mapping[str, Any], *, video: bool = True) -> None:
    """Hold a row of `schema.SAMPLE` to what a decoder and a sampler may be given.

    Args:
        row: of the table.
        video: whether anything is asked of its video; else there need be none.

    Raises:
        ValueError: a field is missing its value, or has an impossible one.
    """
    members, aspect = row["members"] or [], row["pixel_aspect"]
    width, height = row["width"], row["height"]
    rules = {
        "key": bool(row["key"]),
        "members": bool(members) and all(value is not None for value in (members[0] or {"": None}).values()),
        "labels": row["labels"] is not None and None not in row["labels"],
        "codec": bool(row["codec"]),
        "width": bool(width and height) and min(width, height) > 0 and is_size(width, height),
        "pixel_aspect": aspect is not None and 1 / MAX_PIXEL_ASPECT <= aspect <= MAX_PIXEL_ASPECT,
        "rotation": row["rotation"] in TURNS,
        "time_base": bool(TIME_BASE.fullmatch(row["time_base"] or "")),
        "frames": row["frames"] is not None and 0 < row["frames"] <= MAX_PACKETS,
    }
    if not video:
        rules = {name: rules[name] for name in ("key", "members", "labels")} | {
            "frames": row["frames"] is None or rules["frames"]
        }
    wrong = next((name for name, holds in rules.items() if not holds), None)
    if wrong is not None:
        raise ValueError(f"the table gives the sample a {wrong} that no video has: {row[wrong]!r:.200}")


def harmless(row: Mapping[str, Any]) -> dict[str, Any]:
    """What stands in for a row that is not believed: of its own it keeps the key and the place of the video."""
    members = row.get("members") or [None]
    offset = members[0]["offset"] if members[0] else None
    place = HARMLESS["members"][0] | {"offset": -1 if offset is None else offset}
    return HARMLESS | {"key": row.get("key") or "", "members": [place]}
