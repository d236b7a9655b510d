"""Gumbel noise as a pure function of a seed, a row and a column: the same on every path and device, in any block.

The seed gives every row and every column a key of 32 bits. A hash of both keys is 23 random bits, from which two
logarithms make a Gumbel(0, 1) number. The integers are the same everywhere; the logarithms round as the device does.
The multipliers are those of Chris Wellons' hash-prospector (public domain).

R rows, K columns.
"""

import torch
from torch import Tensor

ROW_STREAM, COLUMN_STREAM = 0x51F15EED, 0x2C0FFEE5
"""Set the keys of rows and of columns apart."""

FIRST, SECOND = 0x21F0AAAD, 0xD35A2D97
"""The multipliers of the hash."""

BITS = 23
"""Of a random number u = (k + 0.5) / 2**23, which is exact in float32 and never 0 or 1."""


def noise_keys(seed: Tensor, R: int, K: int) -> tuple[Tensor, Tensor]:
    """(R,) and (K,) int32 keys of rows and columns, on the device of `seed` (int64, 0-d). Keys of rows differ."""
    low, high = seed.reshape(1).view(torch.int32).unbind()

    def keys(count: int, stream: int) -> Tensor:
        place = torch.arange(count, dtype=torch.int32, device=seed.device)
        return _mix(place ^ _mix(low ^ _mix(high ^ _signed(stream))))

    return keys(R, ROW_STREAM), keys(K, COLUMN_STREAM)


def gumbel_noise(row_R: Tensor, column_K: Tensor, dtype: torch.dtype) -> Tensor:
    """(R, K) of noise in `dtype`, float32 or float64, for keys of some rows and columns; from -2.9 to 16.7."""
    return exponential_noise(row_R, column_K, dtype).log_().neg_()


def exponential_noise(row_R: Tensor, column_K: Tensor, dtype: torch.dtype) -> Tensor:
    """(R, K): exp of minus the Gumbel noise, for a softmax: exp(x + gumbel) is exp(x) / exponential."""
    uniform_RK = random_bits(row_R, column_K).to(dtype)
    uniform_RK.mul_(2.0**-BITS).add_(2.0 ** -(BITS + 1))  # without rounding
    return uniform_RK.log_().neg_()


def random_bits(row_R: Tensor, column_K: Tensor) -> Tensor:
    """(R, K) int32 from 0 to 2**23 - 1."""
    bits_RK = row_R[:, None] ^ column_K
    bits_RK.mul_(_signed(FIRST))
    bits_RK ^= _shift(bits_RK, 15)
    bits_RK.mul_(_signed(SECOND))
    return _shift(bits_RK, 32 - BITS)


def _mix(x: Tensor) -> Tensor:
    """A bijection of int32 in which every bit depends on every bit."""
    x = (x ^ _shift(x, 16)) * _signed(FIRST)
    x = (x ^ _shift(x, 15)) * _signed(SECOND)
    return x ^ _shift(x, 15)


def _shift(x: Tensor, count: int) -> Tensor:
    """Shift to the right and fill with zeros; torch fills with the sign."""
    return (x >> count).bitwise_and_((1 << (32 - count)) - 1)


def _signed(word: int) -> int:
    """32 bits as int32 reads them."""
    return word - ((word >> 31) << 32)
