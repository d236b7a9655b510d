"""What the implementations of entity alignment are given, already checked."""

from typing import NamedTuple

import torch
from torch import Tensor


class Problem(NamedTuple):
    """The arguments of the registered op, in its order."""

    region_RD: Tensor
    entity_KD: Tensor
    scale: Tensor
    """0-d, in the wide dtype."""
    noise_RK: Tensor | None
    """In the wide dtype."""
    seed: Tensor | None
    """0-d int64; not beside `noise_RK`."""

    @property
    def sizes(self) -> tuple[int, int, int]:
        """R regions, K entities, D width."""
        R, D = self.region_RD.shape
        return R, self.entity_KD.shape[0], D


def wide(dtype: torch.dtype) -> torch.dtype:
    """The dtype of logits and sums: float64 for float64, else float32."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def inverse_lengths(rows_XD: Tensor) -> Tensor:
    """(X,) 1 / length, wide; 0 for a row of length 0, NaN for one without a finite length."""
    length_X: Tensor = torch.linalg.vector_norm(rows_XD, dim=1, dtype=wide(rows_XD.dtype))
    zero_X = length_X == 0
    inverse_X = length_X.masked_fill(zero_X, 1).reciprocal().masked_fill(zero_X, 0)
    return inverse_X.masked_fill(~length_X.isfinite(), torch.nan)


def across(grad_XD: Tensor, unit_XD: Tensor) -> Tensor:
    """The part of each gradient across its unit row: what the length of a row is divided out of pulls no other way."""
    return grad_XD - (grad_XD * unit_XD).sum(1, keepdim=True) * unit_XD
