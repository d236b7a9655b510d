"""What merged tokens stand for, and what that means to attention.

B images, N patches, M tokens before the merging of a matching.
"""

import torch
from torch import Tensor

from .matching import Matching


def merged_source(matching: Matching, source_BMN: Tensor | None = None) -> Tensor:
    """Which patches each token stands for after a merging.

    Args:
        matching: of the merging, from M tokens to fewer.
        source_BMN: (B, M, N) bool: which of the N patches the M tokens stood for, as the call for the merging before
            returned it; None for the first merging, whose tokens are the patches.

    Returns:
        Bool, shaped as `source_BMN` with the tokens after merging in place of M.

    Raises:
        ValueError: `source_BMN` is not bool, not on the device of the matching, or not of its B and tokens.
    """
    target_BM = matching.target_BN
    if source_BMN is None:
        return target_BM[:, None] == torch.arange(matching.merged, device=target_BM.device)[:, None]
    B, M = target_BM.shape
    if source_BMN.dtype != torch.bool or source_BMN.dim() != 3 or source_BMN.shape[:2] != (B, M):
        want = f"bool ({B}, {M}, N), the B and the tokens of the matching"
        raise ValueError(f"source_BMN must be {want}, got {source_BMN.dtype} {tuple(source_BMN.shape)}")
    if source_BMN.device != target_BM.device:
        raise ValueError(f"source_BMN must be on {target_BM.device} (as the matching is), got {source_BMN.device}")
    counts = source_BMN.new_zeros((B, matching.merged, source_BMN.shape[2]), dtype=torch.int32)
    where_BMN = target_BM.long()[:, :, None].expand_as(source_BMN)
    return counts.scatter_add(1, where_BMN, source_BMN.int()) > 0


def size_bias(size_BN: Tensor) -> Tensor:
    """What proportional attention adds to its logits: the logarithm of how many patches each key stands for.

    softmax(q . k + log size) attends to a merged token as it would to its patches one by one. Add it along the keys:
    `attn_mask=size_bias(size_BN)[:, None, None, :]`, in the dtype of the queries.

    Args:
        size_BN: (B, N) fp32 or fp64, each > 0.

    Returns:
        (B, N) in the dtype of `size_BN`.

    Raises:
        ValueError: `size_BN` has another dtype (16 bits cannot count patches) or number of dimensions.
    Source:
        Bolya et al., "Token Merging: Your ViT But Faster", Eq. 1.
    """
    if size_BN.dtype not in (torch.float32, torch.float64) or size_BN.dim() != 2:
        raise ValueError(f"size_BN must be float32 or float64 (B, N), got {size_BN.dtype} {tuple(size_BN.shape)}")
    return size_BN.log()
