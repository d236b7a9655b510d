"""Jobs that move data. The face for training: `ClipLoader`, its `LoaderConfig`, the `Batch` it yields."""

from typing import TYPE_CHECKING, Any

from .config import LoaderConfig

if TYPE_CHECKING:
    from .loader import Batch, ClipLoader

__all__ = ["Batch", "ClipLoader", "LoaderConfig"]


def __getattr__(name: str) -> Any:
    # The loader brings torch and DALI, seconds that the Ray workers of an ingest should not spend.
    if name in ("Batch", "ClipLoader"):
        from . import loader

        return getattr(loader, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
