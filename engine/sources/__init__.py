"""Inputs as rows: folders of videos, manifests, published datasets' own lists, and tars, streamed in a stable order.

`open_source` gives the rows, `check_unique` finds ids that come twice. Every form has a module that documents it.
"""

from dataclasses import dataclass
from pathlib import Path

from .records import MANIFEST_EXTENSIONS, read_records
from .rows import URL_SCHEMES, VIDEO_EXTENSIONS, InputRow, is_url
from .source import Layout, Source, open_source, read_everything
from .unique import check_unique


@dataclass(frozen=True, slots=True)
class Inputs:
    """All rows of an input, and how many files of a folder were not videos."""

    rows: list[InputRow]
    ignored: int = 0


def read_inputs(source: Path) -> Inputs:
    """Read a folder or a manifest as a whole.

    Raises:
        UsageError: nothing there, no video in it, an unknown kind of file, a bad row or an id given twice.
    """
    opened = open_source(source)
    return Inputs(read_everything(opened), opened.ignored)


__all__ = [
    "MANIFEST_EXTENSIONS",
    "URL_SCHEMES",
    "VIDEO_EXTENSIONS",
    "InputRow",
    "Inputs",
    "Layout",
    "Source",
    "check_unique",
    "is_url",
    "open_source",
    "read_inputs",
    "read_records",
]
