"""Synonym classes as torch knows them: registered ops, their shapes, gradients, autocast and FLOPs.

Three ops make both public ones: the means of segments of text, their products with videos, and the loss. Means, scale
and losses are wide, so autocast casts text and videos alone. The arguments of the loss are those of `Problem`.
"""

from collections.abc import Sequence
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from ..library import register_autocast, register_flops
from . import cpu
from .problem import Gradients, Kept, Problem, Upstream
from .reference import wide


def _path(impl: str) -> ModuleType:
    if impl == "cpu":
        return cpu
    from . import triton

    return triton


@torch.library.custom_op("reelmill::synonym_means", mutates_args=())
def torch_means(text: Tensor, offsets: Tensor, owners: Tensor, normalize: bool, impl: str) -> tuple[Tensor, Tensor]:
    """Means (C, D) and 1 / length of each row (P,)."""
    means: tuple[Tensor, Tensor] = _path(impl).means(text, offsets, owners, normalize)
    return means


@torch.library.custom_op("reelmill::synonym_means_backward", mutates_args=())
def torch_means_backward(
    grad: Tensor, text: Tensor, offsets: Tensor, owners: Tensor, inverse: Tensor, normalize: bool, impl: str
) -> Tensor:
    """The gradient (P, D) of the text."""
    gradient: Tensor = _path(impl).means_backward(grad, text, offsets, owners, inverse, normalize)
    return gradient


@torch.library.custom_op("reelmill::synonym_similarity", mutates_args=())
def torch_similarity(video: Tensor, means: Tensor, normalize: bool, impl: str) -> tuple[Tensor, Tensor]:
    """Similarities (B, C) before the scale, and 1 / length of each video (B,)."""
    similarity: tuple[Tensor, Tensor] = _path(impl).similarity(video, means, normalize)
    return similarity


@torch.library.custom_op("reelmill::synonym_similarity_backward", mutates_args=())
def torch_similarity_backward(
    video: Tensor, means: Tensor, inverse: Tensor, grad: Tensor, wanted: Sequence[bool], normalize: bool, impl: str
) -> tuple[Tensor, Tensor]:
    """Gradients of the videos (B, D) and of the means (C, D), empty where not wanted."""
    gradients: tuple[Tensor, Tensor] = _path(impl).similarity_backward(video, means, inverse, grad, wanted, normalize)
    return gradients


@torch.library.custom_op("reelmill::synonym_cross_entropy", mutates_args=())
def torch_cross_entropy(
    video: Tensor,
    means: Tensor,
    scale: Tensor,
    target: Tensor,
    negatives: Tensor | None,
    negative: Tensor | None,
    label_smoothing: float,
    ignore_index: int,
    normalize: bool,
    impl: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Losses and logarithms of the sums of exponentials (B,), and the tensors of `Kept`."""
    problem = Problem(video, means, scale, target, negatives, negative, label_smoothing, ignore_index, normalize)
    kept: Kept
    loss_B, lse_B, kept = _path(impl).cross_entropy(problem)
    return loss_B, lse_B, kept.inverse_B, kept.own_B, kept.top_B, kept.sum_B


@torch.library.custom_op("reelmill::synonym_cross_entropy_backward", mutates_args=())
def torch_cross_entropy_backward(
    video: Tensor,
    means: Tensor,
    scale: Tensor,
    target: Tensor,
    negatives: Tensor | None,
    negative: Tensor | None,
    label_smoothing: float,
    ignore_index: int,
    normalize: bool,
    inverse: Tensor,
    own: Tensor,
    top: Tensor,
    sum_below: Tensor,
    grad_loss: Tensor,
    grad_lse: Tensor,
    wanted: Sequence[bool],
    impl: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of the videos, the means, the scale and the negatives, empty where not wanted."""
    problem = Problem(video, means, scale, target, negatives, negative, label_smoothing, ignore_index, normalize)
    kept, upstream = Kept(inverse, own, top, sum_below), Upstream(grad_loss, grad_lse)
    gradients: Gradients = _path(impl).cross_entropy_backward(problem, kept, upstream, wanted)
    return gradients.video_BD, gradients.means_CD, gradients.scale, gradients.negatives_GD


@torch_means.register_fake
def _means_shapes(text: Tensor, offsets: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    P, D = text.shape
    dtype = wide(text.dtype)
    return text.new_empty((offsets.shape[0] - 1, D), dtype=dtype), text.new_empty(P, dtype=dtype)


@torch_means_backward.register_fake
def _means_backward_shape(grad: Tensor, text: Tensor, *_: Any) -> Tensor:
    return text.new_empty(text.shape)


@torch_similarity.register_fake
def _similarity_shapes(video: Tensor, means: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    return means.new_empty((video.shape[0], means.shape[0])), means.new_empty(video.shape[0])


@torch_similarity_backward.register_fake
def _similarity_backward_shapes(
    video: Tensor, means: Tensor, inverse: Tensor, grad: Tensor, wanted: Sequence[bool], *_: Any
) -> tuple[Tensor, ...]:
    return _empty_like((video, means), wanted)


@torch_cross_entropy.register_fake
def _cross_entropy_shapes(*inputs: Any) -> tuple[Tensor, ...]:
    problem = Problem(*inputs[:-1])
    B = problem.video_BD.shape[0]
    own = problem.means_CD.new_empty(0 if problem.negatives_GD is None else B)
    loss, lse, inverse, top, sum_below = (problem.means_CD.new_empty(B) for _ in range(5))
    return loss, lse, inverse, own, top, sum_below


@torch_cross_entropy_backward.register_fake
def _cross_entropy_backward_shapes(
    video: Tensor, means: Tensor, scale: Tensor, target: Tensor, negatives: Tensor | None, *inputs: Any
) -> tuple[Tensor, ...]:
    *_, wanted, _impl = inputs
    return _empty_like((video, means, scale, means if negatives is None else negatives), wanted)


def _empty_like(sides: Sequence[Tensor], wanted: Sequence[bool]) -> tuple[Tensor, ...]:
    return tuple(side.new_empty(side.shape if want else 0) for side, want in zip(sides, wanted, strict=True))


def _keep_means(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    text, offsets, owners, ctx.normalize, ctx.impl = inputs
    ctx.save_for_backward(text, offsets, owners, output[1])
    ctx.mark_non_differentiable(output[1])


def _differentiate_means(ctx: Any, grad: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
    return torch_means_backward(grad, *ctx.saved_tensors, ctx.normalize, ctx.impl), None, None, None, None


def _keep_similarity(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    video, means, ctx.normalize, ctx.impl = inputs
    ctx.save_for_backward(video, means, output[1])
    ctx.mark_non_differentiable(output[1])


def _differentiate_similarity(ctx: Any, grad: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
    wanted = list(ctx.needs_input_grad[:2])
    gradients = torch_similarity_backward(*ctx.saved_tensors, grad, wanted, ctx.normalize, ctx.impl)
    return *_kept(gradients, wanted), None, None


def _keep_cross_entropy(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *arguments, ctx.impl = inputs
    ctx.save_for_backward(*arguments[:6], *output[2:])
    ctx.numbers = arguments[6:]
    ctx.mark_non_differentiable(*output[2:])


def _differentiate_cross_entropy(ctx: Any, grad_loss: Tensor, grad_lse: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
    tensors, kept = ctx.saved_tensors[:6], ctx.saved_tensors[6:]
    wanted = [ctx.needs_input_grad[index] for index in (0, 1, 2, 4)]
    gradients = torch_cross_entropy_backward(*tensors, *ctx.numbers, *kept, grad_loss, grad_lse, wanted, ctx.impl)
    video, means, scale, negatives = _kept(gradients, wanted)
    return video, means, scale, None, negatives, None, None, None, None, None


def _kept(gradients: Sequence[Tensor], wanted: Sequence[bool]) -> list[Tensor | None]:
    return [gradient if want else None for gradient, want in zip(gradients, wanted, strict=True)]


def _refuse(name: str) -> Any:
    def refuse(ctx: Any, *_: Any) -> None:
        raise RuntimeError(f"{name} cannot be differentiated twice; impl='reference' can")

    return refuse


def _similarity_flops(video: Sequence[int], means: Sequence[int], *_: Any, **__: Any) -> int:
    return 2 * video[0] * means[0] * video[1]


def _similarity_backward_flops(video: Sequence[int], means: Sequence[int], *inputs: Any, **__: Any) -> int:
    *_, wanted, _normalize, _impl = inputs
    return int(sum(wanted)) * _similarity_flops(video, means)


def _cross_entropy_backward_flops(video: Sequence[int], means: Sequence[int], *inputs: Any, **__: Any) -> int:
    *_, wanted, _impl = inputs
    return (1 + int(wanted[0] or wanted[2]) + int(wanted[1])) * _similarity_flops(video, means)


torch_means.register_autograd(_differentiate_means, setup_context=_keep_means)
torch_similarity.register_autograd(_differentiate_similarity, setup_context=_keep_similarity)
torch_cross_entropy.register_autograd(_differentiate_cross_entropy, setup_context=_keep_cross_entropy)
for backward, name in (
    (torch_means_backward, "the mean in synonym_similarity and synonym_cross_entropy"),
    (torch_similarity_backward, "synonym_similarity"),
    (torch_cross_entropy_backward, "synonym_cross_entropy"),
):
    backward.register_autograd(_refuse(name), setup_context=lambda ctx, inputs, output: None)
for name in ("synonym_means", "synonym_similarity", "synonym_cross_entropy"):
    register_autocast(name, leading=1)
    register_autocast(f"{name}_backward", leading=0)  # takes what the forward took, also if it runs under autocast
register_flops("synonym_similarity", _similarity_flops)
register_flops("synonym_similarity_backward", _similarity_backward_flops)
register_flops("synonym_cross_entropy", _similarity_flops)
register_flops("synonym_cross_entropy_backward", _cross_entropy_backward_flops)
