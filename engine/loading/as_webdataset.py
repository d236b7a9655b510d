"""A dataset's tars as a `webdataset.WebDataset`, for those who stay with it."""

from functools import partial
from pathlib import Path
from typing import Any

import webdataset as wds

from ...shards.reader import Dataset


def as_webdataset(dataset: str | Path, **options: Any) -> wds.WebDataset:
    """A webdataset pipeline over the samples of a dataset: dicts of `__key__` and a member's bytes by extension.

    What a later generation took away is left out; nothing is decoded. The order, the split over ranks and workers and
    the resumption are webdataset's: for exact ones take `ClipLoader`.

    Args:
        dataset: a dataset folder.
        options: of `webdataset.WebDataset`; without others, shards keep their order and are split over nodes.

    Raises:
        UsageError: no dataset there.
        DamageError: its manifest is damaged.
    """
    opened = Dataset(dataset)
    tars = [str(opened.tar_path(shard)) for shard in range(len(opened.manifest.shards))]
    gone = {tar: keys for tar, keys in zip(tars, opened.manifest.tombstones(), strict=True) if keys}
    defaults: dict[str, Any] = {"shardshuffle": False, "nodesplitter": wds.split_by_node, "empty_check": False}
    return wds.WebDataset(tars, **(defaults | options)).select(partial(_is_live, gone))


def _is_live(gone: dict[str, frozenset[str]], sample: dict[str, Any]) -> bool:
    """The same key may live on in a later shard."""
    return sample["__key__"] not in gone.get(sample["__url__"], ())
