"""Which samples of the datasets take part, and what is known of each without opening its video."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ...shards.cache import DiskCache
from ...shards.errors import DamageError, ReelmillError, UsageError
from ...shards.manifest import hash_json
from ...shards.reader import Dataset, SampleRef
from ...shards.schema import Member
from ...shards.store import Remote
from ...shards.table import Packets
from ..fetch import fetch_file
from ..media.limits import check_count
from .config import LoaderConfig
from .features import FeatureSets
from .rows import check_row, harmless, row_of

Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Sample:
    """One sample of a dataset."""

    dataset: Dataset
    ref: SampleRef
    row: dict[str, Any]
    """Of `schema.SAMPLE`, without its packets."""
    error: Exception | None = None
    """Why the row cannot be believed; then it holds what is harmless: a key where there is one."""

    @property
    def key(self) -> str:
        """Names the sample; "" where its table does not tell."""
        key: str = self.row["key"]
        return key

    @property
    def video(self) -> Member:
        """The first file of the sample: its video."""
        return Member(**self.row["members"][0])

    @property
    def packets(self) -> Packets:
        """Of its video.

        Raises:
            DamageError, MediaError, ValueError: it has none, too many, or one that says nothing.
        """
        packets = self.dataset.packets(self.ref)
        check_count(len(packets))
        return packets

    def times_seconds(self) -> NDArray[np.float64]:
        """When each frame is shown, ascending."""
        packets = self.packets
        return np.sort(packets.pts[packets.shown]).astype(np.float64) * float(Fraction(self.row["time_base"]))


class Catalog:
    """The samples of one or more datasets that pass the filters, counted through them in dataset order.

    Nothing is read of a sample before it is asked for; filters read the columns that they look at, once.

    Raises:
        UsageError: no dataset, one behind a URL without a window or in a cache that is too small, labels that are not
            there, or no sample left.
    """

    def __init__(self, datasets: Sequence[str | Path], config: LoaderConfig) -> None:
        if not datasets:
            raise UsageError("a loader needs at least one dataset, got none")
        self._config = config
        cache = DiskCache(config.cache_folder, int(config.cache_gb * 1e9))
        self.datasets = [Dataset(dataset, cache=cache, fetch=fetch_file) for dataset in datasets]
        self.features = FeatureSets(self.datasets, config) if config.features is not None else None
        """Of the datasets, where they are asked for."""
        self.classes = config.classes or tuple(sorted({c for d in self.datasets for c in d.manifest.classes}))
        for label in self.classes:
            if not any(label in dataset.manifest.classes for dataset in self.datasets):
                raise UsageError(f"classes must be labels of {self._names()}, got {label!r}")
        self._place = {label: place for place, label in enumerate(self.classes)}
        self._chosen = [self._choose(dataset) for dataset in self.datasets]
        self.shard_sizes = [[len(rows) for rows in shards] for shards in self._chosen]
        """For each dataset, the samples of each shard that take part."""
        self._firsts = [np.concatenate([[0], np.cumsum(sizes)]) for sizes in self.shard_sizes]
        self._check_enough()
        self._check_windows(cache.limit_bytes)

    def __len__(self) -> int:
        return sum(sum(sizes) for sizes in self.shard_sizes)

    @cached_property
    def digest(self) -> str:
        """Names the samples and their order: the bytes of the datasets and of their features, and the filters."""
        filters = self._config.split, self._config.classes
        features = [] if self.features is None else [self.features.digests]
        return hash_json([[dataset.manifest.digest for dataset in self.datasets], filters, *features])

    def sample(self, source: int, number: int) -> Sample:
        """The sample of a number in a dataset, among those that take part."""
        shard = int(np.searchsorted(self._firsts[source], number, side="right")) - 1
        place = int(self._chosen[source][shard][number - self._firsts[source][shard]])
        dataset, ref = self.datasets[source], SampleRef(shard, place)
        row: dict[str, Any] = {}
        try:
            table = dataset.rows(shard)
            row = row_of(table, place)
            check_row(row, video=self._config.video or self._config.sampling == "seconds")
        except UsageError:
            raise
        except (DamageError, ValueError, IndexError) as error:
            return Sample(dataset, ref, harmless(row), error)
        return Sample(dataset, ref, row)

    def shards_of(self, sources: NDArray[np.int64], numbers: NDArray[np.int64]) -> list[tuple[int, int]]:
        """(dataset, shard) of each sample."""
        return [
            (source, int(np.searchsorted(self._firsts[source], number, side="right")) - 1)
            for source, number in zip(sources.tolist(), numbers.tolist(), strict=True)
        ]

    def open_shard(self, source: int, shard: int) -> None:
        """Have a shard at hand; an error stays for whoever reads it."""
        dataset = self.datasets[source]
        with suppress(ReelmillError):
            if self._reads_tars:
                dataset.tar(shard)
            if self.features is not None:
                self.features.fetch(dataset, shard)
            dataset.rows(shard)

    @property
    def samples_ahead(self) -> int:
        """Samples of two windows of the datasets that are fetched; 0 where none is."""
        remote = [
            sizes
            for dataset, sizes in zip(self.datasets, self.shard_sizes, strict=True)
            if isinstance(dataset.store, Remote)
        ]
        window = self._config.window_shards or 1
        return max((2 * window * sum(sizes) // max(1, len(sizes)) for sizes in remote), default=0)

    def labels(self, sample: Sample) -> list[int]:
        """The classes of a sample, in its own order; empty where it has none of them."""
        return [self._place[label] for label in sample.row["labels"] if label in self._place]

    def _choose(self, dataset: Dataset) -> list[Rows | range]:
        split, classes = self._config.split, self._config.classes
        gone = dataset.manifest.tombstones()
        chosen: list[Rows | range] = []
        for shard, size in enumerate(dataset.shard_sizes):
            if not (split or classes or gone[shard]):
                chosen.append(range(size))
                continue
            names = ["split"] * (split is not None) + ["labels"] * bool(classes) + ["key"] * bool(gone[shard])
            table = dataset.shard_table(shard, names)
            keep = np.ones(size, dtype=np.bool_)
            if split is not None:
                keep &= _true(pc.equal(table.column("split"), split))
            if classes:
                keep &= _any_of(table.column("labels").combine_chunks(), classes)
            if gone[shard]:
                keep &= ~_true(pc.is_in(table.column("key"), pa.array(gone[shard], pa.string())))
            chosen.append(np.flatnonzero(keep))
        return chosen

    def _check_enough(self) -> None:
        least = self._config.global_batch if self._config.training else 1
        alone = next((d for d, sizes in zip(self.datasets, self.shard_sizes, strict=True) if not sum(sizes)), None)
        if len(self) >= least and (alone is None or self._config.weights is None):
            return
        asked = "any split" if self._config.split is None else f"split {self._config.split!r}"
        splits = sorted({split or "none" for d in self.datasets for split in _splits(d)})
        where, count = (self._names(), len(self)) if len(self) < least else (str(alone and alone.folder), 0)
        raise UsageError(
            f"{where} must hold at least {least if len(self) < least else 1} samples of {asked} and "
            f"{len(self.classes)} classes, got {count} (splits there: {', '.join(splits)})"
        )

    def _check_windows(self, cache_bytes: int) -> None:
        """Two windows of every remote dataset must lie in the cache: the one that is read, and the next one."""
        needed, window = 0, self._config.window_shards
        for dataset in self.datasets:
            if isinstance(dataset.store, Remote):
                if window is None and self._config.training:
                    raise UsageError(f"window_shards must be given where a dataset is remote, as {dataset.store.where}")
                sizes = sorted(map(partial(self._bytes_of, dataset), range(len(dataset.shard_sizes))), reverse=True)
                needed += sum(sizes[: 2 * (window or 1)])
        if needed > cache_bytes:
            raise UsageError(
                f"cache_gb must be at least {needed / 1e9:.3f} to hold two windows of {window or 1} shards, "
                f"got {self._config.cache_gb}"
            )

    @property
    def _reads_tars(self) -> bool:
        return self._config.video or (self.features is not None and self.features.in_tars)

    def _bytes_of(self, dataset: Dataset, shard: int) -> int:
        """What is fetched of a shard, but for its table."""
        beside = 0 if self.features is None else self.features.bytes(dataset, shard)
        return beside + (dataset.manifest.shards[shard].bytes if self._reads_tars else 0)

    def _names(self) -> str:
        return ", ".join(str(dataset.folder) for dataset in self.datasets)


def _true(values: Any) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = pc.fill_null(values, False).to_numpy(zero_copy_only=False)
    return found


def _any_of(labels: pa.ListArray, wanted: Sequence[str]) -> NDArray[np.bool_]:
    """Rows that hold one of the labels."""
    held = _true(pc.is_in(labels.flatten(), pa.array(wanted, pa.string())))
    rows = pc.list_parent_indices(labels).to_numpy()
    return np.bincount(rows[held], minlength=len(labels)) > 0


def _splits(dataset: Dataset) -> set[str | None]:
    return {
        split
        for shard in range(len(dataset.shard_sizes))
        for split in dataset.shard_table(shard, ["split"]).column("split").unique().to_pylist()
    }
