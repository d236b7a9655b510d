"""Token merging in plain PyTorch: the oracle of the other implementations.

It holds all similarities, and differentiates by autograd, twice if need be.

B images, N tokens of each, M after merging, D width, K width of the metric, E even tokens, O odd ones that may receive.
"""

import torch
from torch import Tensor

from .matching import Matching, arrange, protected


def wide(dtype: torch.dtype) -> torch.dtype:
    """The dtype of sums and sizes: float64 for float64, else float32."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def unit_rows(metric_BNK: Tensor) -> Tensor:
    """Rows of length 1 in the wide dtype; a row of length 0 stays, one without a finite length is NaN."""
    length_BN1: Tensor = torch.linalg.vector_norm(metric_BNK, dim=2, keepdim=True, dtype=wide(metric_BNK.dtype))
    square_BN1 = length_BN1.square()  # what is 0 or not finite, as for those who find the length by its square
    scale_BN1 = length_BN1.reciprocal().masked_fill(square_BN1 == 0, 0)
    return metric_BNK * scale_BN1.masked_fill(~square_BN1.isfinite(), torch.nan)


def match_reference(metric_BNK: Tensor, r: int, protect: int) -> Matching:
    """Match even tokens with odd ones; see the op."""
    N = metric_BNK.shape[1]
    _, start = protected(protect)
    unit_BNK = unit_rows(metric_BNK)
    if r == 0:
        nothing_BE = torch.zeros_like(unit_BNK[:, ::2, 0])
        return arrange(nothing_BE, nothing_BE.long(), 0, protect, N)
    similarity_BEO = unit_BNK[:, ::2] @ unit_BNK[:, 1::2][:, start:].mT
    best_BE, partner_BE = similarity_BEO.masked_fill(similarity_BEO.isnan(), -torch.inf).max(2)
    return arrange(best_BE, partner_BE + start, r, protect, N)


def merge_reference(
    x_BND: Tensor, residual_BND: Tensor | None, size_BN: Tensor | None, matching: Matching
) -> tuple[Tensor, Tensor]:
    """Means of `x_BND` (and `residual_BND`) weighted by size, and the sizes added up; see the op."""
    sums = wide(x_BND.dtype)
    value_BND, dtype = x_BND.to(sums), x_BND.dtype
    if residual_BND is not None:
        value_BND, dtype = value_BND + residual_BND.to(sums), torch.promote_types(dtype, residual_BND.dtype)
    if size_BN is None:
        size_BN = value_BND.new_ones(value_BND.shape[:2])
    target_BN = matching.target_BN.long()
    total_BM = size_BN.new_zeros(len(size_BN), matching.merged).scatter_add(1, target_BN, size_BN)
    merged_BMD = gather_sum(value_BND * size_BN[:, :, None], matching) / total_BM[:, :, None]
    return merged_BMD.to(dtype), total_BM


def unmerge_reference(merged_BMD: Tensor, matching: Matching) -> Tensor:
    """Each token gets its merged token's row; see the op."""
    B, N = matching.target_BN.shape
    return merged_BMD.gather(1, matching.target_BN.long()[:, :, None].expand(B, N, merged_BMD.shape[2]))


def gather_sum(value_BND: Tensor, matching: Matching) -> Tensor:
    """(B, M, D): the sum of the rows that go into each merged token."""
    B, _, D = value_BND.shape
    where_BND = matching.target_BN.long()[:, :, None].expand_as(value_BND)
    return value_BND.new_zeros(B, matching.merged, D).scatter_add(1, where_BND, value_BND)
