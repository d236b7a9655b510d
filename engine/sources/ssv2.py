"""Something-Something V2: `<id>.webm` files and a json list per split.

    [{"id": "78687", "label": "holding potato next to vicks vaporub bottle",
      "template": "Holding [something] next to [something]", "placeholders": ["potato", "vicks vaporub bottle"]}, …]

The class is the template without its brackets, which is how `labels.json` ({"Holding something next to something":
"46", …}) spells it; the filled template is the caption. `test.json` holds ids alone.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...shards.errors import UsageError
from .asked import Asked, split_of
from .records import read_json
from .rows import InputRow


def ssv2_rows(asked: Asked) -> Iterator[InputRow]:
    """A row per entry; its id is the video's. With a label map every template must be one of its names."""
    names = frozenset(asked.label_map.values()) if asked.label_map is not None else None
    for path in asked.lists("*train.json", "*validation.json", "*test.json"):
        entries = read_json(path)
        if not isinstance(entries, list):
            raise UsageError(f"{path} must be a json list of videos, got {type(entries).__name__}")
        for number, entry in enumerate(entries, 1):
            yield _row(entry, asked, path, f"{path}: entry {number}", names)


def _row(entry: Any, asked: Asked, path: Path, where: str, names: frozenset[str] | None) -> InputRow:
    if not isinstance(entry, dict) or not isinstance(entry.get("id"), str | int):
        raise UsageError(f"{where} must be an object with an id, got {str(entry)[:80]}")
    video, template = str(entry["id"]), entry.get("template")
    label = str(template).replace("[", "").replace("]", "") if template else None
    if label is not None and names is not None and label not in names:
        raise UsageError(f"{where} has the template {label!r}, which the label map has not")
    return InputRow(
        input_id=video,
        path=asked.videos.locate(f"{video}.webm"),
        uri=f"{video}.webm",
        labels=[label] if label else [],
        caption=entry.get("label") or None,
        split=split_of(path),
        extra={"placeholders": entry["placeholders"]} if entry.get("placeholders") else {},
    )
