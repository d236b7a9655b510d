"""What a feature set says of itself, and how its files are called."""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import pyarrow as pa

from ..errors import DamageError, UsageError
from ..manifest import hash_json
from .tensors import DTYPE_BYTES, Stored

FOLDER = "features"
NAME, INDEX_NAME, EXTENSION = "features.json", "index.parquet", "safetensors"
FORMAT_VERSION = 1
PER_FRAME = ("frames", "regions")
"""Tensors whose first axis is time."""
INDEX = pa.schema(
    [
        ("key", pa.string()),
        ("tar", pa.int32()),  # its place in features.json
        ("offset", pa.int64()),
        ("size", pa.int64()),
        ("crc32", pa.uint32()),
    ]
)
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """What all samples have in common of one tensor."""

    dtype: str
    """One of `tensors.DTYPE_BYTES`."""
    shape: tuple[int | None, ...]
    """None along an axis where samples differ."""

    def __str__(self) -> str:
        return f"{self.dtype} ({', '.join('*' if size is None else str(size) for size in self.shape)})"


@dataclass(frozen=True, slots=True)
class FeatureTar:
    """One tar of a set."""

    name: str
    """Of the file, without .tar: that of the shard whose samples it goes with."""
    samples: int
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class FeatureSet:
    """The whole of features.json."""

    name: str
    description: str
    versions: dict[str, str]
    """Of the model and the programs that made them."""
    tensors: dict[str, TensorSpec]
    samples: int
    tars: list[FeatureTar]
    index_sha256: str
    format_version: int = FORMAT_VERSION

    @property
    def digest(self) -> str:
        """The hash of this, and through the hashes in it of every byte of the set."""
        return hash_json(asdict(self))


def check_name(name: str) -> None:
    """A set may be called so.

    Raises:
        UsageError: it may not.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(f"a feature set's name must match {_NAME.pattern}, got {name!r}")


def specs_of(tensors: Mapping[str, Stored], before: Mapping[str, TensorSpec] | None) -> dict[str, TensorSpec]:
    """What a sample has in common with those before it.

    Raises:
        UsageError: other tensors, types or numbers of axes than theirs.
    """
    own = {name: TensorSpec(tensor.dtype, tensor.shape) for name, tensor in sorted(tensors.items())}
    if before is None:
        return own
    alike = {name: (spec.dtype, len(spec.shape)) for name, spec in own.items()}
    if alike != {name: (spec.dtype, len(spec.shape)) for name, spec in before.items()}:
        raise UsageError(f"tensors must be {words_of(before)} as in the samples before, got {words_of(own)}")
    return {
        name: TensorSpec(
            spec.dtype,
            tuple(a if a == b else None for a, b in zip(spec.shape, own[name].shape, strict=True)),
        )
        for name, spec in before.items()
    }


def words_of(specs: Mapping[str, TensorSpec]) -> str:
    """Tensors in words, for errors."""
    return ", ".join(f"{name} {spec}" for name, spec in specs.items()) or "none"


def check_tensors(tensors: Mapping[str, Stored], specs: Mapping[str, TensorSpec], where: str) -> None:
    """Hold a sample's tensors to what all have in common.

    Raises:
        DamageError: they are others.
    """
    fits = tensors.keys() == specs.keys() and all(
        tensor.dtype == specs[name].dtype
        and len(tensor.shape) == len(specs[name].shape)
        and all(want in (None, got) for want, got in zip(specs[name].shape, tensor.shape, strict=True))
        for name, tensor in tensors.items()
    )
    if not fits:
        own = {name: TensorSpec(tensor.dtype, tensor.shape) for name, tensor in tensors.items()}
        raise DamageError(f"{where} must hold {words_of(specs)}, got {words_of(own)}")


def parse_set(data: bytes, where: str) -> FeatureSet:
    try:
        record = json.loads(data)
        if (version := record["format_version"]) != FORMAT_VERSION:
            raise UsageError(f"{where} must be of format version {FORMAT_VERSION}, got {version!r}")
        digest = record.pop("digest")
        tensors = {name: TensorSpec(its["dtype"], tuple(its["shape"])) for name, its in record["tensors"].items()}
        tars = [FeatureTar(**tar) for tar in record["tars"]]
        made = FeatureSet(**(record | {"tensors": tensors, "tars": tars}))
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
        if isinstance(error, UsageError):
            raise
        raise DamageError(f"{where} is no list of features: {type(error).__name__}: {error}") from error
    if digest != made.digest:
        raise DamageError(f"{where} must hash to {digest} as it says itself, but hashes to {made.digest}")
    if not all(_is_spec(spec) for spec in made.tensors.values()):
        raise DamageError(f"{where} must give tensors by dtype and shape, got {words_of(made.tensors)}")
    return made


def _is_spec(spec: TensorSpec) -> bool:
    sizes = all(size is None or (type(size) is int and size >= 0) for size in spec.shape)
    return spec.dtype in DTYPE_BYTES and sizes
