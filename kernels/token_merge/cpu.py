"""Token merging on the CPU: similarities in blocks, and tokens moved as whole rows.

Most merged tokens are one token as it came, so merging is a copy of rows with the few sums written over it; its
gradient is a copy in which few rows are scaled.

B images, N tokens of each, M after merging, D width, K width of the metric, E even tokens, O odd ones that may receive.
"""

import torch
from torch import Tensor

from .matching import Matching, arrange, protected
from .reference import unit_rows, wide

BLOCK_ELEMENTS = 1 << 19
"""Most similarities, and most elements of rows, that a block works on."""


def match(metric_BNK: Tensor, r: int, protect: int) -> Matching:
    """Match even tokens with odd ones; see the op."""
    B, N, _ = metric_BNK.shape
    _, start = protected(protect)
    best_BE = metric_BNK.new_zeros((B, N - N // 2), dtype=wide(metric_BNK.dtype))
    partner_BE = best_BE.long()
    if r:
        unit_BNK = unit_rows(metric_BNK)
        even_BEK, odd_BKO = unit_BNK[:, ::2], unit_BNK[:, 1::2][:, start:].mT
        O = odd_BKO.shape[2]  # noqa: E741
        rows = min(best_BE.shape[1], max(1, BLOCK_ELEMENTS // O))
        images = max(1, BLOCK_ELEMENTS // (rows * O))
        for b in range(0, B, images):
            for e in range(0, best_BE.shape[1], rows):
                block = slice(b, b + images), slice(e, e + rows)
                best_BE[block], partner_BE[block] = _best(even_BEK[block] @ odd_BKO[block[0]])
    return arrange(best_BE, partner_BE + start, r, protect, N)


def _best(similarity_BEO: Tensor) -> tuple[Tensor, Tensor]:
    """The maximum over the last dimension and the lowest index that reaches it, where NaN is below every number."""
    best_BE, partner_BE = similarity_BEO.max(2)
    if best_BE.isnan().any():  # torch.max lets a NaN win
        best_BE, partner_BE = similarity_BEO.masked_fill_(similarity_BEO.isnan(), -torch.inf).max(2)
    return best_BE, partner_BE


def merge(
    x_BND: Tensor, residual_BND: Tensor | None, size_BN: Tensor | None, matching: Matching
) -> tuple[Tensor, Tensor]:
    """Means weighted by size, in the wider dtype of both inputs, and the sizes added up."""
    if size_BN is None:
        size_BN = x_BND.new_ones(x_BND.shape[:2], dtype=wide(x_BND.dtype))
    return _collect(x_BND, residual_BND, size_BN, matching)


def merge_backward(grad_BMD: Tensor, size_BN: Tensor | None, total_BM: Tensor, matching: Matching) -> Tensor:
    """(B, N, D): each token's share of the gradient of its merged token."""
    grad_BND = unmerge(grad_BMD, matching)
    target_BN = matching.target_BN.long()
    shared_BN = matching.offsets_BM.diff().gather(1, target_BN) > 1
    weight_BN = total_BM.gather(1, target_BN).reciprocal_()
    if size_BN is not None:
        weight_BN *= size_BN
    row = shared_BN.flatten().nonzero().squeeze(1)
    rows = grad_BND.view(-1, grad_BND.shape[2])
    rows[row] = (rows[row] * weight_BN.flatten()[row, None]).to(rows.dtype)
    return grad_BND


def unmerge(merged_BMD: Tensor, matching: Matching) -> Tensor:
    """(B, N, D): each token gets its merged token's row."""
    B, N = matching.target_BN.shape
    M, D = merged_BMD.shape[1:]
    rows = merged_BMD.contiguous().view(-1, D)
    return rows.index_select(0, _flat(matching.target_BN, M)).view(B, N, D)


def unmerge_backward(grad_BND: Tensor, matching: Matching) -> Tensor:
    """(B, M, D): the sum of the gradients of the tokens that took a merged token's row."""
    return _collect(grad_BND, None, None, matching)[0]


def _collect(
    x_BND: Tensor, residual_BND: Tensor | None, size_BN: Tensor | None, matching: Matching
) -> tuple[Tensor, Tensor]:
    """Means weighted by size and the sizes added up; without sizes the sums, and nothing."""
    B, N, D = x_BND.shape
    M = matching.merged
    sides = [side.contiguous().view(-1, D) for side in (x_BND, residual_BND) if side is not None]
    order = _flat(matching.order_BN, N)
    starts = _flat(matching.offsets_BM[:, :-1], N)
    length = matching.offsets_BM.diff().flatten()
    first = order[starts]
    out = _copy_rows(sides, first)

    group = (length > 1).nonzero().squeeze(1)
    sums = out.new_zeros((len(group), D), dtype=wide(out.dtype))
    size = None if size_BN is None else size_BN.flatten()
    total = sums.new_empty(0) if size is None else size[first]
    if size is not None:
        total[group] = 0
    step = 0
    more = torch.arange(len(group))  # the groups of more than `step` tokens; each adds one of them, so no two meet
    while len(more):
        token = order[starts[group[more]] + step]
        value = sides[0][token].to(sums.dtype)
        for residual in sides[1:]:
            value += residual[token]
        if size is not None:
            value = value * size[token, None]
            total[group[more]] += size[token]
        sums[more] += value
        step += 1
        more = more[length[group[more]] > step]
    if size is not None:
        sums /= total[group, None]
    out[group] = sums.to(out.dtype)
    return out.view(B, M, D), total if size is None else total.view(B, M)


def _copy_rows(sides: list[Tensor], row: Tensor) -> Tensor:
    """Row by row the sum of both sides, or the one side there is."""
    if len(sides) == 1:
        return sides[0].index_select(0, row)
    out = sides[0].new_empty((len(row), sides[0].shape[1]), dtype=torch.promote_types(sides[0].dtype, sides[1].dtype))
    step = max(1, BLOCK_ELEMENTS // out.shape[1])
    for start in range(0, len(row), step):
        part = slice(start, start + step)
        torch.add(sides[0].index_select(0, row[part]), sides[1].index_select(0, row[part]), out=out[part])
    return out


def _flat(index: Tensor, rows: int) -> Tensor:
    """Indices into the `rows` rows of their image, as indices into the rows of all images."""
    return (index + rows * torch.arange(len(index))[:, None]).flatten()
