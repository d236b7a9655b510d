"""Bytes of .npy, .npz and .safetensors files → tensors, without unpickling and without believing a header."""

import io
import zipfile
from math import prod
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from ...shards.errors import DamageError, UsageError
from ...shards.features import Stored
from ...shards.features.tensors import decode
from ..sources.tars import FEATURE_EXTENSIONS

PICKLED_EXTENSIONS = (".pt", ".pth", ".pkl", ".pickle", ".pyd")
MAX_SAMPLE_BYTES = 1 << 30
"""Of the arrays of one sample."""
MAX_AXES = 8


def split_member(extension: str) -> tuple[str, str] | None:
    """What a tar member's extension says: the name of its tensor ("" for none), and the kind of file.

    `npy` is ("", ".npy"), `frames.npy` is ("frames", ".npy"), `mp4` is None.
    """
    *tensor, last = extension.rsplit(".", 1)
    kind = f".{last.lower()}"
    return ("".join(tensor), kind) if kind in FEATURE_EXTENSIONS else None


def check_not_pickled(name: str) -> None:
    """Refuse a file that would have to be unpickled.

    Raises:
        UsageError: it would; says how to convert it.
    """
    if name.lower().endswith(PICKLED_EXTENSIONS):
        raise UsageError(
            f"{name} is a pickle, which can run any code when it is read, and is not taken: where it was made, write "
            ".npy (numpy.save) or .safetensors (safetensors.torch.save_file) instead"
        )


def tensors_of(data: bytes, kind: str, name: str) -> dict[str, Stored]:
    """The tensors in a file.

    Args:
        data: its bytes.
        kind: one of FEATURE_EXTENSIONS.
        name: of the tensor in a .npy, which has none of its own.

    Raises:
        DamageError: it does not read, is of types that are no plain numbers, or larger than MAX_SAMPLE_BYTES.
    """
    if len(data) > MAX_SAMPLE_BYTES:
        raise DamageError(f"{len(data)} bytes, at most {MAX_SAMPLE_BYTES} are taken")
    if kind == ".safetensors":
        return decode(data, "the file")
    try:
        if kind == ".npy":
            return {name: Stored.of(_array(data))}
        return _npz(data)
    except UsageError as error:
        raise DamageError(str(error)) from None
    except Exception as error:  # whatever a damaged file makes a library raise
        raise DamageError(f"does not read as {kind[1:]}: {error}") from None


def _npz(data: bytes) -> dict[str, Stored]:
    found: dict[str, Stored] = {}
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = archive.infolist()
        promised = sum(entry.file_size for entry in entries)
        if promised > MAX_SAMPLE_BYTES:
            raise ValueError(f"its arrays hold {promised} bytes, at most {MAX_SAMPLE_BYTES} are taken")
        for entry in entries:
            if not entry.filename.endswith(".npy"):
                raise ValueError(f"it must hold .npy files, got {entry.filename!r}")
            with archive.open(entry) as file:
                found[entry.filename.removesuffix(".npy")] = Stored.of(_array(file.read(entry.file_size + 1)))
    if not found:
        raise ValueError("it holds no array")
    return found


def _array(data: bytes) -> NDArray[Any]:
    """An array whose size is held to its bytes before there is memory for it."""
    file = io.BytesIO(data)
    version = npy.read_magic(file)
    read_header = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}.get(version)
    if read_header is None:
        raise ValueError(f"it must be of version 1.0 or 2.0 of the format, got {version}")
    shape, by_columns, dtype = read_header(file)
    if dtype.hasobject or dtype.fields is not None or dtype.subdtype is not None:
        raise ValueError(f"it must hold plain numbers, got {dtype}")
    if len(shape) > MAX_AXES or any(size < 0 for size in shape):
        raise ValueError(f"it must have at most {MAX_AXES} axes, got the shape {shape}")
    left = len(data) - file.tell()
    if prod(shape) * dtype.itemsize != left:
        raise ValueError(
            f"an array of shape {shape} and {dtype} must be {prod(shape) * dtype.itemsize} bytes, got {left}"
        )
    array: NDArray[Any] = np.frombuffer(data, dtype, count=prod(shape), offset=file.tell())
    return array.reshape(shape, order="F" if by_columns else "C")
