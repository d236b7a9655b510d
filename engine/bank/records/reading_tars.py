"""Records out of WebDataset tars: one per sample, from its text members; nothing else of a sample is read.

000000017.json {"action": …, "text": …, "source": …}
000000018.txt  the description          000000018.cls  the action
"""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from ...sources.tars import tar_members
from .record import Chunk, Columns, Record, excerpt, not_text, record_of, too_long

TEXT_EXTENSIONS = (".json", ".txt", ".cls")


@dataclass(slots=True)
class _Sample:
    key: str
    offset: int
    texts: dict[str, bytes] = field(default_factory=dict)
    longest: int = 0


def tar_records(chunk: Chunk, columns: Columns, max_bytes: int) -> Iterator[Record]:
    """The samples of a tar; `.txt` and `.cls` win over the json. A tar that is cut ends with a failed record.

    Raises:
        UsageError: a compressed tar.
    """
    from webdataset.tariterators import base_plus_ext  # brings torch: only where tars are read

    row, sample = 0, None
    with open(chunk.path, "rb") as file:
        for member in tar_members(file, chunk.path):
            if isinstance(member, str):
                if sample is not None:  # may lack members
                    yield Record(row, sample.offset, "", "", "", ("damaged", f"the sample at the break: {member}"))
                    row += 1
                yield Record(row, -1, "", "", "", ("damaged", f"the rest of the tar: {member}"))
                return
            key, _ = base_plus_ext(member.name)
            extension = os.path.splitext(member.name)[1].lower()
            if key is None or not member.isreg() or member.issparse() or extension not in TEXT_EXTENSIONS:
                continue
            if sample is not None and sample.key != key:
                yield _record(row, sample, columns, max_bytes)
                row += 1
                sample = None
            sample = sample or _Sample(key, member.offset)
            sample.longest = max(sample.longest, member.size)
            sample.texts[extension] = _read(file, member.offset_data, min(member.size, max_bytes))
    if sample is not None:
        yield _record(row, sample, columns, max_bytes)


def _read(file: BinaryIO, offset: int, size: int) -> bytes:
    place = file.tell()
    file.seek(offset)
    data = file.read(size)
    file.seek(place)
    return data


def _record(row: int, sample: _Sample, columns: Columns, max_bytes: int) -> Record:
    if sample.longest > max_bytes:
        return too_long(row, sample.offset, sample.longest, max_bytes, max(sample.texts.values(), key=len))
    values: dict[str, Any] = {}
    for extension, data in sorted(sample.texts.items(), key=lambda item: item[0] != ".json"):
        try:
            text = data.decode()
        except UnicodeDecodeError as error:
            return not_text(row, sample.offset, data, error)
        if extension != ".json":
            values[columns[1] if extension == ".txt" else columns[0]] = text
            continue
        try:
            content = json.loads(text)
        except (ValueError, RecursionError) as error:
            detail = f"{sample.key}.json must be one JSON object: {error}"
            return Record(row, sample.offset, "", excerpt(text), "", ("not_json", detail))
        if not isinstance(content, dict):
            detail = f"{sample.key}.json must be a JSON object, got {type(content).__name__}"
            return Record(row, sample.offset, "", excerpt(text), "", ("not_json", detail))
        values = content
    return record_of(row, sample.offset, columns, *(values.get(name) for name in columns))
