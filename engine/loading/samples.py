"""One sample from its row to its frames and features; whatever is wrong with it costs it alone."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from av.error import FFmpegError

from ...shards.errors import DamageError, UsageError
from ..errors import MediaError
from .catalog import Catalog, Sample
from .config import LoaderConfig
from .features import Tensors
from .heads import Heads, Video
from .meter import Meter
from .quarantine import Quarantine
from .sampling import Source, View, make_views

DAMAGE = (DamageError, MediaError, FFmpegError, ValueError, IndexError)
"""What a damaged sample raises."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """One sample of a batch, as far as a thread takes it."""

    sample: Sample
    views: list[View]
    video: Video | None = None
    """None where it did not decode, is not asked for, and for a slot that pads the tail."""
    features: Tensors | None = None
    """Likewise."""


class Samples:
    """Loads single samples; its threads share it.

    Args:
        config: of the loader.
        catalog: says what the samples are.
        heads: decode them; None where no video is read.
        quarantine: takes in the damaged ones.
        meter: counts what is read.
    """

    def __init__(
        self, config: LoaderConfig, catalog: Catalog, heads: Heads | None, quarantine: Quarantine, meter: Meter
    ) -> None:
        self._config, self._catalog, self._heads = config, catalog, heads
        self._quarantine, self._meter = quarantine, meter

    def load(self, epoch: int, source: int, number: int, counted: bool) -> Loaded:
        """One sample, decoded if it is `counted`: a slot that pads the tail is not.

        Args:
            epoch: draws the views.
            source: place of its dataset.
            number: of the sample there.
            counted: whether anything but its row is read.

        Raises:
            ReelmillError: too many samples are damaged, or something else is wrong that is no sample's fault.
        """
        sample = self._catalog.sample(source, number)
        if counted:
            self._meter.sample()
        try:
            if sample.error is not None:
                raise sample.error
            return self._whole(sample, epoch) if counted else Loaded(sample, self._views(sample, epoch, 1))
        except UsageError:
            raise
        except DAMAGE as error:
            if counted:
                self._quarantine.add(sample, error)
            known = Source(sample.key, 1, 1.0, 1.0)  # a neighbour's pixels are shown by the neighbour's views
            return Loaded(sample, make_views(replace(self._config, sampling="segments"), known, epoch=epoch))

    def _whole(self, sample: Sample, epoch: int) -> Loaded:
        sets, stored, rows = self._catalog.features, None, 1
        if sets is not None:  # first: they are cheaper than the video
            stored = sets.read(sample.dataset, sample.ref.shard, sample.row)
            self._meter.payload(sum(len(tensor.data) for tensor in stored.values()))
            rows = sets.length(stored)
        views = self._views(sample, epoch, rows)
        features = None if sets is None or stored is None else sets.take(stored, views, sample.row["frames"] or rows)
        return Loaded(sample, views, None if self._heads is None else self._decoded(sample, views), features)

    def _views(self, sample: Sample, epoch: int, rows: int) -> list[View]:
        """`rows`: of the features along the video, for a sample that has none itself."""
        row, (wide, high) = sample.row, (1.0, 1.0)
        if self._heads is not None:
            wide, high = row["width"] * row["pixel_aspect"], row["height"]
            if row["rotation"] in (90, 270):
                wide, high = high, wide
        times = sample.times_seconds() if self._config.sampling == "seconds" else None
        return make_views(self._config, Source(sample.key, row["frames"] or rows, wide, high, times), epoch=epoch)

    def _decoded(self, sample: Sample, views: Sequence[View]) -> Video:
        assert self._heads is not None
        codec, rotation = sample.row["codec"], sample.row["rotation"]
        data = sample.dataset.tar(sample.ref.shard).read(sample.key, sample.video)
        self._meter.payload(len(data))
        return self._heads.decode(data, sample.packets, views, codec=codec, rotation=rotation)
