"""Inputs as rows: folders of videos, manifests, published datasets' own lists, and tars, streamed in a stable order.

`open_source` gives the rows, `check_unique` finds ids that come twice. Every form has a module that documents it.
"""

from .records import MANIFEST_EXTENSIONS, read_records
from .rows import URL_SCHEMES, VIDEO_EXTENSIONS, InputRow, is_url
from .source import Layout, Source, open_source
from .unique import check_unique

__all__ = [
    "MANIFEST_EXTENSIONS",
    "URL_SCHEMES",
    "VIDEO_EXTENSIONS",
    "InputRow",
    "Layout",
    "Source",
    "check_unique",
    "is_url",
    "open_source",
    "read_records",
]
