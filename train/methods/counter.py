"""Random numbers from a counter: the same on every device, rank and batch, and after a resume."""

import torch
from torch import Tensor


def uniform(shape: tuple[int, ...], *, seed: int, device: torch.device) -> Tensor:
    """fp32 in [0, 1), a pure function of the seed and the place (SplitMix64's finaliser of both).

    Args:
        shape: of the numbers; a place is its index row by row.
        seed: any int.
        device: where they are made.
    """
    count = torch.Size(shape).numel()
    word = torch.arange(1, count + 1, device=device) * _signed(0x9E3779B97F4A7C15) + _signed(_mix(seed))
    word = (word ^ _right(word, 30)) * _signed(0xBF58476D1CE4E5B9)
    word = (word ^ _right(word, 27)) * _signed(0x94D049BB133111EB)
    bits = _right(word ^ _right(word, 31), 40)
    return (bits.float() * 2**-24).view(shape)


def _right(word: Tensor, places: int) -> Tensor:
    """A shift that brings in zeros."""
    return (word >> places) & ((1 << (64 - places)) - 1)


def _mix(seed: int) -> int:
    """A 64-bit word of a seed, so that near seeds have streams far apart."""
    word = seed & _MASK
    word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) & _MASK
    return word ^ (word >> 31)


def _signed(word: int) -> int:
    return word - (1 << 64) if word >> 63 else word


_MASK = (1 << 64) - 1
