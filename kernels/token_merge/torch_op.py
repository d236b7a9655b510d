"""Token merging as torch knows it: registered ops, their shapes, gradients, autocast and FLOPs.

Merging is linear, so its gradient needs the indices and the sizes alone. Only matching is cast under autocast: a
residual stream keeps its dtype. Rows that are moved count no FLOPs, as in torch.
"""

from collections.abc import Sequence
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from ..library import register_autocast, register_flops
from . import cpu
from .matching import Matching
from .reference import wide


def _path(impl: str) -> ModuleType:
    if impl == "cpu":
        return cpu
    from . import triton

    return triton


@torch.library.custom_op("reelmill::match_tokens", mutates_args=())
def torch_match(metric: Tensor, r: int, protect: int, impl: str) -> tuple[Tensor, Tensor, Tensor]:
    """The tensors of a `Matching` that merges r tokens, at most `most_merges`."""
    matching: Matching = _path(impl).match(metric, r, protect)
    return matching.target_BN, matching.order_BN, matching.offsets_BM


@torch.library.custom_op("reelmill::merge_tokens", mutates_args=())
def torch_merge(
    x: Tensor, residual: Tensor | None, size: Tensor | None, target: Tensor, order: Tensor, offsets: Tensor, impl: str
) -> tuple[Tensor, Tensor]:
    """Merged tokens (B, M, D) and their sizes (B, M)."""
    merged: tuple[Tensor, Tensor] = _path(impl).merge(x, residual, size, Matching(target, order, offsets))
    return merged


@torch.library.custom_op("reelmill::merge_tokens_backward", mutates_args=())
def torch_merge_backward(
    grad: Tensor, size: Tensor | None, total: Tensor, target: Tensor, order: Tensor, offsets: Tensor, impl: str
) -> Tensor:
    """The gradient (B, N, D) of x, and of the residual, in the dtype of `grad`."""
    gradient: Tensor = _path(impl).merge_backward(grad, size, total, Matching(target, order, offsets))
    return gradient


@torch.library.custom_op("reelmill::unmerge_tokens", mutates_args=())
def torch_unmerge(merged: Tensor, target: Tensor, order: Tensor, offsets: Tensor, impl: str) -> Tensor:
    """Tokens (B, N, D)."""
    x: Tensor = _path(impl).unmerge(merged, Matching(target, order, offsets))
    return x


@torch.library.custom_op("reelmill::unmerge_tokens_backward", mutates_args=())
def torch_unmerge_backward(grad: Tensor, target: Tensor, order: Tensor, offsets: Tensor, impl: str) -> Tensor:
    """The gradient (B, M, D) of the merged tokens."""
    gradient: Tensor = _path(impl).unmerge_backward(grad, Matching(target, order, offsets))
    return gradient


@torch_match.register_fake
def _match_shapes(metric: Tensor, r: int, protect: int, impl: str) -> tuple[Tensor, Tensor, Tensor]:
    B, N, _ = metric.shape
    shapes = (B, N), (B, N), (B, N - r + 1)
    target, order, offsets = (metric.new_empty(shape, dtype=torch.int32) for shape in shapes)
    return target, order, offsets


@torch_merge.register_fake
def _merge_shapes(
    x: Tensor, residual: Tensor | None, size: Tensor | None, target: Tensor, order: Tensor, offsets: Tensor, impl: str
) -> tuple[Tensor, Tensor]:
    B, _, D = x.shape
    M = offsets.shape[1] - 1
    dtype = x.dtype if residual is None else torch.promote_types(x.dtype, residual.dtype)
    return x.new_empty((B, M, D), dtype=dtype), x.new_empty((B, M), dtype=wide(x.dtype))


@torch_merge_backward.register_fake
def _merge_backward_shape(grad: Tensor, size: Tensor | None, total: Tensor, target: Tensor, *_: Tensor | str) -> Tensor:
    return grad.new_empty((*target.shape, grad.shape[2]))


@torch_unmerge.register_fake
def _unmerge_shape(merged: Tensor, target: Tensor, *_: Tensor | str) -> Tensor:
    return merged.new_empty((*target.shape, merged.shape[2]))


@torch_unmerge_backward.register_fake
def _unmerge_backward_shape(grad: Tensor, target: Tensor, order: Tensor, offsets: Tensor, impl: str) -> Tensor:
    return grad.new_empty((grad.shape[0], offsets.shape[1] - 1, grad.shape[2]))


def _keep_merge(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, residual, size, target, order, offsets, ctx.impl = inputs
    ctx.save_for_backward(size, output[1], target, order, offsets)
    ctx.dtypes = x.dtype, None if residual is None else residual.dtype
    ctx.mark_non_differentiable(output[1])


def _differentiate_merge(ctx: Any, grad: Tensor, _: Any) -> tuple[Tensor | None, ...]:
    gradient = torch_merge_backward(grad, *ctx.saved_tensors, ctx.impl)
    both = (
        gradient.to(dtype) if dtype is not None and needed else None
        for dtype, needed in zip(ctx.dtypes, ctx.needs_input_grad[:2], strict=True)
    )
    return *both, *[None] * 5


def _keep_unmerge(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, *matching, ctx.impl = inputs
    ctx.save_for_backward(*matching)


def _differentiate_unmerge(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return torch_unmerge_backward(grad, *ctx.saved_tensors, ctx.impl), None, None, None, None


def _refuse_merge(ctx: Any, *_: Any) -> None:
    raise RuntimeError("merge_tokens cannot be differentiated twice; impl='reference' can")


def _refuse_unmerge(ctx: Any, *_: Any) -> None:
    raise RuntimeError("unmerge_tokens cannot be differentiated twice; impl='reference' can")


def _match_flops(metric: Sequence[int], *_: Any, **__: Any) -> int:
    B, N, K = metric
    return 2 * B * (N - N // 2) * (N // 2) * K


torch_merge.register_autograd(_differentiate_merge, setup_context=_keep_merge)
torch_unmerge.register_autograd(_differentiate_unmerge, setup_context=_keep_unmerge)
torch_merge_backward.register_autograd(_refuse_merge, setup_context=lambda ctx, inputs, output: None)
torch_unmerge_backward.register_autograd(_refuse_unmerge, setup_context=lambda ctx, inputs, output: None)
register_autocast("match_tokens")
register_flops("match_tokens", _match_flops)
