"""Token merging on the CPU: similarities in blocks, and tokens moved as whole rows.

Most merged tokens are one token as it came, so merging is a copy of rows with the few sums written over it; its
gradient is a copy in which few rows are scaled.

B images, N tokens of each, M after merging, D width, K width of the metric, E even tokens, O odd ones that may receive.
"""

import functools
from typing import NamedTuple

import torch
from torch import Tensor

from . import pages
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
    B, M, D = len(x_BND), matching.merged, x_BND.shape[2]
    groups = _groups(matching)
    sides = [side for side in (x_BND, residual_BND) if side is not None]
    merged = _copy_rows(sides, groups.first)
    if size_BN is None:
        size_BN = x_BND.new_ones(x_BND.shape[:2], dtype=wide(x_BND.dtype))
    total = size_BN.flatten()[groups.first]
    total[groups.row] = _group_sums([size_BN[:, :, None]], None, groups).squeeze(1)
    sums = _group_sums(sides, size_BN, groups)
    merged[groups.row] = sums.div_(total[groups.row, None]).to(merged.dtype)
    return merged.view(B, M, D), total.view(B, M)


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
    rows = _copy_rows([merged_BMD], _flat(matching.target_BN, matching.merged))
    return rows.view(*matching.target_BN.shape, merged_BMD.shape[2])


def unmerge_backward(grad_BND: Tensor, matching: Matching) -> Tensor:
    """(B, M, D): the sum of the gradients of the tokens that took a merged token's row."""
    groups = _groups(matching)
    sums = _copy_rows([grad_BND], groups.first)
    sums[groups.row] = _group_sums([grad_BND], None, groups).to(sums.dtype)
    return sums.view(len(grad_BND), matching.merged, grad_BND.shape[2])


class _Groups(NamedTuple):
    """The merged tokens of all images in one row; those made of more than one token, G of them, are groups."""

    first: Tensor
    """(B * M,) the first token of each merged token, counted over all images."""
    row: Tensor
    """(G,) the merged token that each group is."""
    members: list[tuple[Tensor | None, Tensor]]
    """For each place in a group: the groups that have it (None for all), and the token that they have there."""


def _groups(matching: Matching) -> _Groups:
    order = _flat(matching.order_BN, matching.tokens)
    start = _flat(matching.offsets_BM[:, :-1], matching.tokens)
    length = matching.offsets_BM.diff().flatten()
    row = (length > 1).nonzero().squeeze(1)
    start_G, length_G = start[row], length[row]
    members: list[tuple[Tensor | None, Tensor]] = [(None, order[start_G + place]) for place in range(2)]
    group = (length_G > 2).nonzero().squeeze(1)
    while len(group):
        members.append((group, order[start_G[group] + len(members)]))
        group = group[length_G[group] > len(members)]
    return _Groups(order[start], row, members)


def _group_sums(sides: list[Tensor], size_BN: Tensor | None, groups: _Groups) -> Tensor:
    """(G, D), wide: the sums of the groups over both sides, times their sizes if given. Members are added in order."""
    rows = [side.contiguous().view(-1, side.shape[2]) for side in sides]
    dtype = wide(rows[0].dtype)
    sums = rows[0].new_zeros((len(groups.row), rows[0].shape[1]), dtype=dtype)
    for group, token in groups.members:
        value = rows[0][token].to(dtype)
        for more in rows[1:]:
            value += more[token]
        if size_BN is not None:
            value *= size_BN.flatten()[token, None]
        if group is None:
            sums += value
        else:
            sums[group] += value
    return sums


def _copy_rows(sides: list[Tensor], row: Tensor) -> Tensor:
    """(rows, D) of all images in one row: the one side, or the sum of both, where `row` says."""
    rows = [side.contiguous().view(-1, side.shape[2]) for side in sides]
    dtype = functools.reduce(torch.promote_types, (side.dtype for side in sides))
    out = pages.empty((len(row), rows[0].shape[1]), dtype)
    if len(rows) == 1:
        return torch.index_select(rows[0], 0, row, out=out)
    step = max(1, BLOCK_ELEMENTS // out.shape[1])
    for start in range(0, len(row), step):
        part = slice(start, start + step)
        torch.add(*(side.index_select(0, row[part]) for side in rows), out=out[part])
    return out


def _flat(index: Tensor, rows: int) -> Tensor:
    """Indices into the `rows` rows of their image, as indices into the rows of all images."""
    return (index + rows * torch.arange(len(index))[:, None]).flatten()
