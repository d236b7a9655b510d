"""Jobs that move data. The face for training: `ClipLoader`, its `LoaderConfig`, the `Batch` it yields; and the same
samples as a plain webdataset pipeline: `as_webdataset`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .loading.config import LoaderConfig

if TYPE_CHECKING:
    from .loading.as_webdataset import as_webdataset
    from .loading.batch import Batch
    from .loading.loader import ClipLoader

__all__ = ["Batch", "ClipLoader", "LoaderConfig", "as_webdataset"]

# The loader brings torch and DALI, seconds that the Ray workers of an ingest should not spend.
_LATE = {"Batch": "batch", "ClipLoader": "loader", "as_webdataset": "as_webdataset"}


def __getattr__(name: str) -> Any:
    if name in _LATE:
        return getattr(import_module(f".loading.{_LATE[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
