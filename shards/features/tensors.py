"""Named tensors as safetensors bytes: written the same every time, read without trusting them. Knows no torch."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, deserialize

from ..errors import DamageError, UsageError

NUMPY_TYPES: dict[str, str] = {
    "BOOL": "?",
    "U8": "|u1",
    "I8": "|i1",
    "I16": "<i2",
    "I32": "<i4",
    "I64": "<i8",
    "F16": "<f2",
    "F32": "<f4",
    "F64": "<f8",
}
"""safetensors' names of what NumPy knows too."""
DTYPE_BYTES: dict[str, int] = {name: np.dtype(kind).itemsize for name, kind in NUMPY_TYPES.items()} | {"BF16": 2}
ALIGNMENT = 8


@dataclass(frozen=True, slots=True)
class Stored:
    """A tensor as its bytes, little-endian, C order."""

    dtype: str
    """One of DTYPE_BYTES."""
    shape: tuple[int, ...]
    data: bytes | bytearray

    @classmethod
    def of(cls, array: NDArray[Any]) -> "Stored":
        """From an array in any memory order.

        Raises:
            UsageError: a type that is no plain number.
        """
        kind = array.dtype.newbyteorder("<") if array.dtype.itemsize > 1 else array.dtype
        name = next((name for name, its in NUMPY_TYPES.items() if np.dtype(its) == kind), None)
        if name is None:
            raise UsageError(f"a feature must be of one of {', '.join(NUMPY_TYPES)}, got {array.dtype}")
        return cls(name, array.shape, np.ascontiguousarray(array, kind).tobytes())

    def numpy(self) -> NDArray[Any]:
        """The same as an array, read-only.

        Raises:
            UsageError: NumPy has no bfloat16.
        """
        if self.dtype not in NUMPY_TYPES:
            raise UsageError(f"NumPy reads {', '.join(NUMPY_TYPES)}, got {self.dtype}")
        return np.frombuffer(self.data, NUMPY_TYPES[self.dtype]).reshape(self.shape)


def encode(tensors: Mapping[str, Stored]) -> bytes:
    """The bytes of a .safetensors file: a function of names and tensors alone, in the order of the names."""
    header: dict[str, Any] = {}
    end, parts = 0, []
    for name in sorted(tensors):
        tensor = tensors[name]
        data = bytes(tensor.data)
        header[name] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": [end, end + len(data)]}
        end += len(data)
        parts.append(data)
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    return len(text).to_bytes(8, "little") + text + b"".join(parts)


def decode(data: bytes, where: str) -> dict[str, Stored]:
    """The tensors of a .safetensors file.

    Args:
        data: its bytes.
        where: they come from, for errors.

    Raises:
        DamageError: not such a file, or a type that is not known here.
    """
    try:
        found: Any = cast(Any, deserialize)(data)
    except SafetensorError as error:
        raise DamageError(f"{where} does not read as safetensors: {error}") from None
    tensors = {}
    for name, its in sorted(found, key=itemgetter(0)):  # they come in any order
        if its["dtype"] not in DTYPE_BYTES:
            raise DamageError(f"{where}: {name} must be of one of {', '.join(DTYPE_BYTES)}, got {its['dtype']}")
        tensors[name] = Stored(its["dtype"], tuple(its["shape"]), its["data"])
    return tensors
