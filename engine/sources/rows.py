"""One input as a row, and the checks that every reader shares."""

import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from ...shards.errors import UsageError

_NAMES = "3gp asf avi flv m2ts m4v mkv mov mp4 mpeg mpg mts mxf ogv ts vob webm wmv"
VIDEO_EXTENSIONS = frozenset(f".{name}" for name in _NAMES.split(" "))
COLUMNS = ("path", "url", "id", "label", "labels", "caption", "split", "start_seconds", "end_seconds")
URL_SCHEMES = ("http", "https", "s3", "gs")
_ROUNDABOUT = re.compile(r"//|(^|/)\.(/|$)|/$")  # what pathlib would leave out; asking it for every row takes longest


@dataclass(frozen=True, slots=True)
class InputRow:
    """One input, as the user named it."""

    input_id: str
    path: str
    """Absolute path of the video, or a URL of one of `URL_SCHEMES`."""
    uri: str
    """As it was given: what the ledger and the sample show."""
    labels: list[str] = field(default_factory=list)
    caption: str | None = None
    split: str | None = None
    start_seconds: float | None = None
    end_seconds: float | None = None
    extra: dict[str, Any] = field(default_factory=dict)
    """Further manifest columns."""
    byte_range: tuple[int, int] | None = None
    """(offset, size): the video lies inside the larger file `path`, a tar."""
    frames_fps: float | None = None
    """`path` is a folder of numbered JPEGs, a video of so many frames per second; None for a video file."""
    frames: int | None = None
    """Of such a folder, the frames that are the video: so many from the first on; None for all."""
    fault: str | None = None
    """`reason: detail` of the ledger where listing alone tells that this input cannot be used."""


def address(uri: str, folder: str, where: str) -> str:
    """What a list calls `uri` as a path or URL that can be opened.

    Args:
        uri: as it was given.
        folder: absolute; a relative path starts here.
        where: names the list and row in an error.

    Raises:
        UsageError: a URL of another scheme, or a name that no file can have.
    """
    scheme, separator, _ = uri.partition("://")
    if separator:
        if scheme.lower() not in URL_SCHEMES:
            allowed = ", ".join(f"{name}://" for name in URL_SCHEMES)
            raise UsageError(f"{where} must be a plain path or one of {allowed}, got {uri!r}")
        return f"{scheme.lower()}{uri[len(scheme) :]}"
    if "\0" in uri:
        raise UsageError(f"{where} must not have a NUL byte in its path, got {uri!r}")
    return os.path.join(folder, uri)


def is_url(path: str) -> bool:
    """Whether a row's path is a URL."""
    return "://" in path


def span_id(name: str, start_seconds: float | None, end_seconds: float | None) -> str:
    """`name#t=start,end`: a span in the form of W3C media fragments, or the name alone where there is none."""
    if start_seconds is None and end_seconds is None:
        return name
    end = "" if end_seconds is None else f",{_number(end_seconds)}"
    return f"{name}#t={'' if start_seconds is None else _number(start_seconds)}{end}"


def _number(seconds: float) -> str:
    return repr(float(seconds)).removesuffix(".0")


def segment_row(
    uri: str,
    path: str,
    span: tuple[float, float] | None,
    *,
    name: str,
    labels: Sequence[str] = (),
    caption: str | None = None,
    split: str | None = None,
    extra: Mapping[str, Any] | None = None,
) -> InputRow:
    """The row of one labelled stretch of a video, or of the whole of it where `span` is None.

    Published lists hold some empty stretches (ActivityNet's do): those become rows with a fault, not an error that bars
    the rest.
    """
    fault, kept = None, span
    if span is not None and not 0 <= span[0] < span[1] < math.inf:
        fault, kept = f"span: the list gives {span[0]:g} to {span[1]:g} s, which holds no frame", None
    return InputRow(
        input_id=span_id(name, *(span or (None, None))),
        path=path,
        uri=uri,
        labels=list(dict.fromkeys(labels)),
        caption=caption,
        split=split,
        start_seconds=kept and kept[0],
        end_seconds=kept and kept[1],
        extra=dict(extra or {}),
        fault=fault,
    )


def manifest_row(record: Mapping[str, Any], folder: str, where: str, *, cells: bool) -> InputRow:
    """A row out of a manifest's record.

    Args:
        record: column → value.
        folder: absolute; where relative paths start.
        where: names the manifest and the row in an error.
        cells: the values are text cells (csv, tsv), in which a list of labels is written as JSON.

    Raises:
        UsageError: no video is named, or a column holds what it cannot mean.
    """
    rest = dict(record)
    _check_columns(rest, where)
    uri = rest.pop("path", None) or rest.pop("url", None)
    if not isinstance(uri, str) or not uri:
        named = [name for name in ("path", "url") if name in record]
        got = f"{record[named[0]]!r} there" if named else f"columns {', '.join(map(str, record))}"
        raise UsageError(f"{where} must name its video in a column `path` or `url`, got {got}")
    path = address(uri, folder, where)
    start, end = _seconds(rest, "start_seconds", where), _seconds(rest, "end_seconds", where)
    if start is not None and end is not None and start >= end:
        raise UsageError(f"{where} must have 0 <= start_seconds < end_seconds, got {start} and {end}")
    name = uri if is_url(path) or not _ROUNDABOUT.search(uri) else PurePosixPath(uri).as_posix()
    labels = _labels(rest, "label", where, cells) + _labels(rest, "labels", where, cells)
    return InputRow(
        input_id=_id(rest, where) or span_id(name, start, end),
        path=path,
        uri=uri,
        labels=list(dict.fromkeys(labels)),
        caption=_text(rest, "caption", where),
        split=_text(rest, "split", where),
        start_seconds=start,
        end_seconds=end,
        extra=rest,
    )


def _check_columns(record: dict[str, Any], where: str) -> None:
    """A column that almost has a name that means something would be kept as a mere further one, and nobody told."""
    for name in record:
        meant = str(name).strip().lower()
        if meant != name and meant in COLUMNS and meant not in record:
            raise UsageError(f"{where} must name its column {meant!r}, got {name!r}")


def _id(rest: dict[str, Any], where: str) -> str | None:
    value = rest.pop("id", None)
    if value is None or value == "":
        return None
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise UsageError(f"{where} must have text or a whole number as id, got {value!r}")
    return str(value)


def _text(rest: dict[str, Any], column: str, where: str) -> str | None:
    value = rest.pop(column, None)
    if value is not None and not isinstance(value, str):
        raise UsageError(f"{where} must have text as {column}, got {value!r}")
    return value or None


def _labels(rest: dict[str, Any], column: str, where: str, cells: bool) -> list[str]:
    value = rest.pop(column, None)
    if value is None or value == "":
        return []
    if cells and value.startswith("["):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise UsageError(f"{where} must have a name or a JSON list of names as {column}, got {value!r}") from None
    labels = value if isinstance(value, list) else [value]
    if not all(isinstance(label, str) and label for label in labels):
        raise UsageError(f"{where} must have a name or a list of names as {column}, got {value!r}")
    return labels


def _seconds(rest: dict[str, Any], column: str, where: str) -> float | None:
    value = rest.pop(column, None)
    if value is None or value == "":
        return None
    return seconds(value, column, where)


def seconds(value: Any, column: str, where: str) -> float:
    """A time in seconds, finite and not negative; `column` and `where` name it in an error.

    Raises:
        UsageError: it is none.
    """
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        raise UsageError(f"{where} must have a number as {column}, got {value!r}") from None
    if not 0 <= number < math.inf:
        raise UsageError(f"{where} must have a finite number >= 0 as {column}, got {value!r}")
    return number
