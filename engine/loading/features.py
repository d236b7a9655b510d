"""Features beside the clips, or in their place: read by key, taken along the views, batched.

B samples, V views, T frames of a view or rows of a tensor, L rows where samples differ.

Rules, for tensors as `features.json` describes them:

- `frames` (T, …) and `regions` (T, …) go along the video. With `feature_frames="sampled"` each view takes of them what
  its own frames are: row i · T // N for frame i of N, which is row i where there is one row per frame: (B, V, T, …).
- Any other, and with `feature_frames="all"` these too, comes whole: stacked where all samples have one shape (B, …),
  else padded with zeros along its first axis (B, L, …), with a mask (B, L) that is True where there is something.
"""

import os
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
import torch

from ...shards.errors import DamageError, UsageError
from ...shards.features import PER_FRAME, Features, Stored, TensorSpec
from ...shards.features.schema import check_tensors, words_of
from ...shards.features.tensors import DTYPE_BYTES
from ...shards.reader import Dataset, members_of
from ..features.arrays import MAX_SAMPLE_BYTES, split_member, tensors_of
from ..sources.tars import FEATURE_EXTENSIONS
from .config import LoaderConfig
from .sampling import View

TORCH_TYPES = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "I16": torch.int16,
    "I32": torch.int32,
    "I64": torch.int64,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F64": torch.float64,
}
TRIED = 16
"""Samples that are looked at for what members hold."""
NPY_TENSOR = "frames"
"""Name of the tensor in a member called `<key>.npy`."""
Specs = dict[str, TensorSpec]
Tensors = dict[str, torch.Tensor]


class FeatureSets:
    """A feature set of each dataset of a loader; reading is safe from several threads.

    Args:
        datasets: of the loader.
        config: of the loader; `features` is given.

    Raises:
        UsageError: a dataset has no such features, or they differ in more than the length of a first axis.
        DamageError: they do not read.
    """

    def __init__(self, datasets: Sequence[Dataset], config: LoaderConfig) -> None:
        assert config.features is not None
        self._config, self._name = config, config.features
        self.in_tars = self._name.startswith(".")
        """Whether they are members of the samples."""
        self._sets = {} if self.in_tars else {each: Features(each.store, self._name) for each in datasets}
        specs = [its.set.tensors for its in self._sets.values()]
        specs = specs or [_members_specs(each, self._name) for each in datasets]
        self.specs = _common(specs, [each.store.where for each in datasets])
        for name, spec in self.specs.items():  # before anything of that size is made
            if prod(self._blank_shape(name, spec)) * DTYPE_BYTES[spec.dtype] > MAX_SAMPLE_BYTES:
                raise DamageError(f"features {name} must take at most {MAX_SAMPLE_BYTES} bytes a sample, got {spec}")
        self._tars = {each: {tar.name: i for i, tar in enumerate(its.set.tars)} for each, its in self._sets.items()}

    @property
    def digests(self) -> list[str]:
        """Name the features, with the datasets' own digests."""
        return [its.set.digest for its in self._sets.values()] or [self._name]

    def read(self, dataset: Dataset, shard: int, row: Mapping[str, Any]) -> dict[str, Stored]:
        """The tensors of a sample.

        Args:
            dataset: that holds it.
            shard: place of its shard there.
            row: of `schema.SAMPLE`.

        Raises:
            DamageError, ValueError: it has none, or they are not what they should be.
        """
        own = self._sets.get(dataset)
        tensors = _of_members(dataset, shard, row, self._name) if own is None else own.read(row["key"])
        check_tensors(tensors, self.specs, f"features of {row['key']}")
        return tensors

    def fetch(self, dataset: Dataset, shard: int) -> None:
        """Have the features of a shard at hand; nothing where they lie in its own tar."""
        tar = self._tars.get(dataset, {}).get(dataset.manifest.shards[shard].name)
        if tar is not None:
            os.close(self._sets[dataset].open_tar(tar))

    def bytes(self, dataset: Dataset, shard: int) -> int:
        """Of the tar that goes with a shard."""
        tar = self._tars.get(dataset, {}).get(dataset.manifest.shards[shard].name)
        return 0 if tar is None else self._sets[dataset].set.tars[tar].bytes

    def length(self, tensors: Mapping[str, Stored]) -> int:
        """Rows along the video; 1 where no tensor goes along it."""
        return next((tensors[name].shape[0] for name in PER_FRAME if name in tensors and tensors[name].shape), 1)

    def take(self, tensors: Mapping[str, Stored], views: Sequence[View], frames: int) -> Tensors:
        """What a batch takes of a sample's tensors.

        Args:
            tensors: of the sample.
            views: of its video.
            frames: of its video.

        Raises:
            ValueError: a tensor that goes along the video has no rows.
        """
        return {
            name: _along(name, tensor, views, frames) if self._is_sampled(name) else _tensor(tensor)
            for name, tensor in tensors.items()
        }

    def batch(self, taken: Sequence[Tensors | None], donors: Sequence[int | None]) -> tuple[Tensors, Tensors]:
        """Tensors and masks of a batch.

        Args:
            taken: by `take`, of each sample.
            donors: for each sample the one whose features it shows: itself, a neighbour, or None for zeros.
        """
        tensors, masks = Tensors(), Tensors()
        for name, spec in self.specs.items():
            blank = torch.zeros(self._blank_shape(name, spec), dtype=TORCH_TYPES[spec.dtype])
            its = [blank if (own := None if at is None else taken[at]) is None else own[name] for at in donors]
            if self._is_sampled(name) or None not in spec.shape:
                tensors[name] = torch.stack(its)
            else:
                tensors[name] = torch.nn.utils.rnn.pad_sequence(its, batch_first=True)
                lengths_B = torch.tensor([len(each) for each in its])
                masks[name] = torch.arange(tensors[name].shape[1]) < lengths_B[:, None]
        return tensors, masks

    def _is_sampled(self, name: str) -> bool:
        return self._config.feature_frames == "sampled" and name in PER_FRAME

    def _blank_shape(self, name: str, spec: TensorSpec) -> list[int]:
        sizes = [size or 0 for size in spec.shape]
        if self._is_sampled(name):
            return [self._config.clips * self._config.crops, self._config.frames, *sizes[1:]]
        return sizes


def nearest(valid: Sequence[bool]) -> list[int | None]:
    """For each slot the valid one that lies nearest, itself first; None where none is valid."""
    good = [slot for slot, its in enumerate(valid) if its]
    return [min(good, key=lambda at: (abs(at - slot), at), default=None) for slot in range(len(valid))]


def _tensor(stored: Stored) -> torch.Tensor:
    dtype = TORCH_TYPES[stored.dtype]
    if not len(stored.data):
        return torch.empty(stored.shape, dtype=dtype)
    data = stored.data if isinstance(stored.data, bytearray) else bytearray(stored.data)  # torch wants to write
    return torch.frombuffer(data, dtype=dtype).reshape(stored.shape)


def _along(name: str, stored: Stored, views: Sequence[View], frames: int) -> torch.Tensor:
    """(V, T, …): in NumPy, and by the bytes of a row, whatever its type; torch's threads would wait for each other."""
    if not stored.shape or not stored.shape[0]:
        raise ValueError(f"{name} must have a row for each frame, got the shape {stored.shape}")
    rows_LX = np.frombuffer(stored.data, np.uint8).reshape(stored.shape[0], len(stored.data) // stored.shape[0])
    taken_VTX = rows_LX[np.stack([view.frames for view in views]) * len(rows_LX) // frames]
    shape = (*taken_VTX.shape[:2], *stored.shape[1:])
    return _tensor(Stored(stored.dtype, shape, bytearray(taken_VTX.tobytes())))


def _of_members(dataset: Dataset, shard: int, row: Mapping[str, Any], ending: str) -> dict[str, Stored]:
    tensors: dict[str, Stored] = {}
    if any(member is None or None in member.values() for member in row["members"]):
        raise ValueError(f"the table must give every member of {row['key']} a place")
    for member in members_of(row["members"]):
        told = split_member(member.ext)
        if told is not None and f".{member.ext}".endswith(ending):
            data = dataset.tar(shard).read(row["key"], member)
            tensors |= tensors_of(data, told[1], told[0] or NPY_TENSOR)
    if not tensors:
        raise DamageError(f"{row['key']} has no member that ends with {ending}")
    return tensors


def _members_specs(dataset: Dataset, ending: str) -> Specs:
    """What the members of the first sample hold that has any; the first of several axes may differ."""
    if not ending.endswith(FEATURE_EXTENSIONS):
        raise UsageError(f"features must be a set's name or end with {', '.join(FEATURE_EXTENSIONS)}, got {ending!r}")
    failure = "there is no sample"
    for shard, size in enumerate(dataset.shard_sizes):
        rows = dataset.shard_table(shard, ["key", "members"]).slice(0, TRIED).to_pylist()
        for row in rows:
            try:
                tensors = _of_members(dataset, shard, row, ending)
            except (DamageError, ValueError) as error:
                failure = str(error)
                continue
            return {
                name: TensorSpec(its.dtype, (None, *its.shape[1:]) if len(its.shape) > 1 else its.shape)
                for name, its in tensors.items()
            }
        if size:
            break
    raise UsageError(f"{dataset.store.where} must have samples with members that end with {ending}, but {failure}")


def _kind(spec: TensorSpec) -> tuple[Any, ...]:
    """What must be alike: all but the first of several axes, or the one axis where its length is the same for all."""
    fixed = spec.shape if len(spec.shape) == 1 else spec.shape[1:]
    return spec.dtype, len(spec.shape), fixed


def _common(specs: Sequence[Mapping[str, TensorSpec]], where: Sequence[str]) -> Specs:
    """What all datasets have in common; only the first axis of a tensor may differ."""
    common = dict(specs[0])
    for its, place in zip(specs[1:], where[1:], strict=True):
        if {name: _kind(spec) for name, spec in its.items()} != {name: _kind(spec) for name, spec in common.items()}:
            raise UsageError(f"features of {place} must be {words_of(common)} as in {where[0]}, got {words_of(its)}")
        for name, spec in its.items():
            if spec.shape[:1] != common[name].shape[:1]:
                common[name] = TensorSpec(spec.dtype, (None, *spec.shape[1:]))
    for name, spec in common.items():
        if None in spec.shape[1:]:
            raise UsageError(f"features {name} of {where[0]} must differ along the first axis alone, got {spec}")
    return common
