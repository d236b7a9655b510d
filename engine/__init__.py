"""Jobs that move data. The face for training: `ClipLoader`, its `LoaderConfig`, the `Batch` it yields."""

from typing import TYPE_CHECKING, Any

from .loading.config import LoaderConfig

if TYPE_CHECKING:
    from .loading.batch import Batch
    from .loading.loader import ClipLoader

__all__ = ["Batch", "ClipLoader", "LoaderConfig"]


def __getattr__(name: str) -> Any:
    # The loader brings torch and DALI, seconds that the Ray workers of an ingest should not spend.
    if name in ("Batch", "ClipLoader"):
        from .loading import loader

        return getattr(loader, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
