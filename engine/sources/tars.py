"""WebDataset tars as input: every video member becomes a row that points into the tar.

    000000000.mp4  000000000.txt (caption)  000000000.json {"caption": …, "url": …}       video2dataset's
    jump/17.avi    jump/17.cls (class name or id)    jump/17.txt

Members of one sample follow each other and share the name up to the first dot (webdataset's rule). Only names and the
text of `.json`, `.txt` and `.cls` members are read, never `.pyd` or `.pickle`. Where it is asked for, a sample that has
no video becomes a row if it holds features (`.npy`, `.npz`, `.safetensors`), which points to the first of them. A tar
that is cut or damaged gives the samples before the damage, and one row with a fault for the rest.
"""

import json
import os
import re
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, cast

from ...shards.errors import UsageError
from .folder import printable, walk
from .labels import class_name
from .rows import VIDEO_EXTENSIONS, InputRow

TEXT_EXTENSIONS = (".json", ".txt", ".cls")
FEATURE_EXTENSIONS = (".npy", ".npz", ".safetensors")
MAX_TEXT_BYTES = 1 << 20
MAX_HEADER_BYTES = 1 << 20
MAX_TARS = 1_000_000
_RANGE = re.compile(r"\{(-?\d+)\.\.(-?\d+)")


@dataclass(slots=True)
class _Sample:
    """What the members of one sample have said so far."""

    key: str
    videos: list[tarfile.TarInfo] = field(default_factory=list)
    features: list[tarfile.TarInfo] = field(default_factory=list)
    texts: dict[str, bytes] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)


def is_tar_pattern(text: str) -> bool:
    """Whether an input is a tar or a brace pattern of tars."""
    return text.lower().endswith((".tar", ".tar}")) or ("{" in text and ".tar" in text)


def expand(pattern: str) -> list[str]:
    """The tars of a path or brace pattern (`shards/{000000..000999}.tar`), in its order.

    Raises:
        UsageError: one of them is not there, or the braces are wrong.
    """
    from braceexpand import braceexpand

    if os.path.exists(pattern):
        return [pattern]
    widest = max((abs(int(end) - int(start)) for start, end in _RANGE.findall(pattern)), default=0)
    if widest >= MAX_TARS:  # each range becomes a list
        raise UsageError(f"input {pattern} must name at most {MAX_TARS} tars, got {widest + 1}")
    try:
        names = braceexpand(pattern)
    except ValueError:
        raise UsageError(f"input {pattern} must have as many {{ as }}") from None
    paths: list[str] = []
    for path in names:
        if not os.path.isfile(path):
            raise UsageError(f"input {pattern} must name tars, but there is no file {path}")
        paths.append(path)
    return paths


def tars_of(folder: Path) -> tuple[list[str], int]:
    """The sorted paths of the tars below a folder, and how many other files lie there."""
    found = list(walk(folder))
    tars = sorted(path for path in found if path.lower().endswith(".tar"))
    return [os.path.join(folder, path) for path in tars], len(found) - len(tars)


def tar_rows(paths: list[str], label_map: dict[str, str] | None, *, features: bool = False) -> Iterator[InputRow]:
    """A row per video member, in order; ids are `<tar>/<member>`, the tar relative to the folder all have in common.

    Args:
        paths: of the tars.
        label_map: names by class id.
        features: whether samples without a video are rows too where they hold features.
    """
    from webdataset.tariterators import base_plus_ext  # brings torch: only where tars are read

    root = os.path.commonpath([os.path.dirname(os.path.abspath(path)) for path in paths])
    for path in paths:
        path = os.path.abspath(path)
        name = printable(os.path.relpath(path, root))
        for row in _tar(path, name, label_map, base_plus_ext):
            if features or row.byte_range is None or not row.uri.lower().endswith(FEATURE_EXTENSIONS):
                yield row


class _Bounded:
    """A tar's file for `tarfile`, which reads extended headers whole, whatever length they claim."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= MAX_HEADER_BYTES:
            raise tarfile.ReadError(f"a header of {size} bytes")
        return self._file.read(size)


def _tar(
    path: str, name: str, label_map: dict[str, str] | None, split: Callable[[str], tuple[str | None, str | None]]
) -> Iterator[InputRow]:
    sample: _Sample | None = None
    try:
        with open(path, "rb") as file:
            total = os.fstat(file.fileno()).st_size
            for member in tar_members(file, path):
                if isinstance(member, str):
                    # the sample at the break may lack members: its videos fail with the rest
                    if sample is not None:
                        sample.faults.append(member)
                        yield from _rows(sample, path, name, label_map)
                    yield _rest(path, name, member)
                    return
                key, _ = split(member.name)
                if key is None or not member.isreg():
                    continue
                if sample is not None and sample.key != key:
                    yield from _rows(sample, path, name, label_map)
                    sample = None
                sample = sample or _Sample(key)
                _take(sample, member, file, total)
    except OSError as error:
        yield _rest(path, name, error.strerror or str(error))
        return
    if sample is not None:
        yield from _rows(sample, path, name, label_map)


def tar_members(file: BinaryIO, path: str) -> Iterator[tarfile.TarInfo | str]:
    """The members of a tar; last what is wrong with it, if anything is."""
    try:
        tar: Any = tarfile.TarFile(fileobj=cast(BinaryIO, _Bounded(file)), errors="surrogateescape")
    except tarfile.TarError as error:
        if _compressed(file):
            raise UsageError(f"input {path} must be a plain tar, got a compressed one: unpack it first") from None
        yield f"not a tar ({error})"
        return
    try:
        while (member := tar.next()) is not None:
            tar.members = []  # it would keep every member
            yield member
        end = tar.offset
    except tarfile.TarError as error:
        yield f"the tar is cut or damaged near byte {tar.offset}: {error}"
        return
    # tarfile ends in silence at a header that it cannot read
    file.seek(end)
    block = file.read(tarfile.BLOCKSIZE)
    if len(block) < tarfile.BLOCKSIZE:
        yield f"the tar is cut at byte {end + len(block)}: its end mark is missing"
    elif block.strip(b"\0"):
        yield f"the tar is damaged at byte {end}: no header of a member"


def _compressed(file: BinaryIO) -> bool:
    file.seek(0)
    return file.read(6).startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd"))


def _take(sample: _Sample, member: tarfile.TarInfo, file: BinaryIO, total: int) -> None:
    extension = os.path.splitext(member.name)[1].lower()
    whole = member.offset_data + member.size <= total
    if extension in VIDEO_EXTENSIONS:
        sample.videos.append(member)
    elif extension in FEATURE_EXTENSIONS:
        sample.features.append(member)
    elif extension in TEXT_EXTENSIONS and member.size > MAX_TEXT_BYTES:
        sample.faults.append(f"{printable(member.name)} has {member.size} bytes, at most {MAX_TEXT_BYTES} are read")
    elif extension in TEXT_EXTENSIONS and whole:
        place = file.tell()
        file.seek(member.offset_data)
        sample.texts[extension] = file.read(member.size)
        file.seek(place)


def _rows(sample: _Sample, path: str, name: str, label_map: dict[str, str] | None) -> Iterator[InputRow]:
    size = os.stat(path).st_size
    try:
        told = _told(sample.texts)
        labels = told.pop("labels")
        labels = (
            labels if label_map is None else [class_name(each, label_map, f"{path}: {sample.key}") for each in labels]
        )
    except (ValueError, RecursionError) as error:
        if isinstance(error, UsageError):
            raise
        told, labels = {}, []
        sample.faults.append(f"the text beside it does not read: {error}")
    for member in sample.videos or sample.features[:1]:
        faults = list(sample.faults)
        if member.issparse():
            faults.append("a sparse member, whose bytes do not lie together")
        elif (lacking := member.offset_data + member.size - size) > 0:
            faults = [f"the tar ends {lacking} bytes before the end of this member"]
        shown = f"{name}/{printable(member.name)}"
        yield InputRow(
            input_id=shown,
            path=path,
            uri=shown,
            labels=labels,
            byte_range=(member.offset_data, member.size),
            fault=f"damaged: {faults[0]}" if faults else None,
            **told,
        )


def _told(texts: dict[str, bytes]) -> dict[str, Any]:
    """Fields of a row out of the text members; the json says more than `.txt` and `.cls`, which win."""
    record = json.loads(texts[".json"]) if ".json" in texts else {}
    if not isinstance(record, dict):
        raise ValueError(f"the json must be an object, got {type(record).__name__}")
    caption, split = record.pop("caption", None), record.pop("split", None)
    labels: list[Any] = []
    for column in ("label", "labels"):
        value = record.pop(column, None)
        labels += value if isinstance(value, list) else [] if value is None else [value]
    if ".txt" in texts:
        caption = texts[".txt"].decode().strip()
    if ".cls" in texts:
        labels = [texts[".cls"].decode().strip()]
    if not all(isinstance(each, str | int) for each in labels) or not isinstance(caption, str | None):
        raise ValueError("labels and caption must be text")
    return {
        "labels": list(dict.fromkeys(str(each) for each in labels)),
        "caption": caption or None,
        "split": split if isinstance(split, str) and split else None,
        "extra": record,
    }


def _rest(path: str, name: str, detail: str) -> InputRow:
    """What cannot be read of a tar, as one input that fails."""
    return InputRow(f"{name}#rest", path, name, fault=f"damaged: {detail}")
