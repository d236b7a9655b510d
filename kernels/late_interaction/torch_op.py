"""Late interaction as torch knows it: two registered ops, their shapes, gradients, autocast and FLOPs.

The arguments up to `mean` are those of `Problem`.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..library import register_autocast, register_flops
from . import cpu
from .problem import Problem


@torch.library.custom_op("reelmill::late_interaction", mutates_args=())
def torch_forward(
    video: Tensor,
    text: Tensor,
    mask: Tensor | None,
    offsets: Tensor,
    owners: Tensor,
    order: Tensor,
    slot: int,
    weights: Sequence[float],
    mean: bool,
    save: Sequence[bool],
    impl: str,
) -> tuple[Tensor, Tensor, Tensor]:
    """Scores (B, C), best prompts (C, V, B) and best frames (P, B), the indices empty where not to be saved."""
    problem = Problem(video, text, mask, offsets, owners, order, slot, weights, mean)
    if impl == "cpu":
        return cpu.forward(problem, save)
    from . import triton

    return triton.forward(problem, save)


@torch.library.custom_op("reelmill::late_interaction_backward", mutates_args=())
def torch_backward(
    video: Tensor,
    text: Tensor,
    mask: Tensor | None,
    offsets: Tensor,
    owners: Tensor,
    order: Tensor,
    slot: int,
    weights: Sequence[float],
    mean: bool,
    grad: Tensor,
    prompt: Tensor,
    frame: Tensor,
    wanted: Sequence[bool],
    impl: str,
) -> tuple[Tensor, Tensor]:
    """Gradients of the video (B, V, D) and of the text (P, D), empty where not wanted."""
    problem = Problem(video, text, mask, offsets, owners, order, slot, weights, mean)
    if impl == "cpu":
        return cpu.backward(problem, grad, prompt, frame, wanted)
    from . import triton

    return triton.backward(problem, grad, prompt, frame, wanted)


@torch_forward.register_fake
def _forward_shapes(*inputs: Any) -> tuple[Tensor, Tensor, Tensor]:
    *arguments, save, _ = inputs
    problem = Problem(*arguments)
    B, V, C, P, _ = problem.sizes
    video = problem.video_BVD
    return (
        video.new_empty((B, C), dtype=torch.float64 if video.dtype == torch.float64 else torch.float32),
        video.new_empty((C, V, B) if save[0] else 0, dtype=torch.int16),
        video.new_empty((P, B) if save[1] else 0, dtype=torch.int16),
    )


@torch_backward.register_fake
def _backward_shapes(video: Tensor, text: Tensor, *inputs: Any) -> tuple[Tensor, ...]:
    *_, wanted, _ = inputs
    return tuple(side.new_empty(side.shape if want else 0) for side, want in zip((video, text), wanted, strict=True))


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *arguments, save, ctx.impl = inputs
    problem = Problem(*arguments)
    if any(weight != 0 and not saved for weight, saved in zip(problem.weights, save, strict=True)):
        raise ValueError("save must be True for each direction that has a weight, since a gradient is wanted")
    ctx.save_for_backward(*problem[:6], *output[1:])
    ctx.set_materialize_grads(False)  # else the indices, which have no gradient, get one of zeros
    ctx.numbers = problem[6:]


def _differentiate(ctx: Any, grad: Tensor | None, *_: Any) -> tuple[Tensor | None, ...]:
    if grad is None:
        return (None,) * 11
    *tensors, prompt, frame = ctx.saved_tensors
    wanted = list(ctx.needs_input_grad[:2])
    gradients = torch_backward(*tensors, *ctx.numbers, grad, prompt, frame, wanted, ctx.impl)
    kept = [gradient if want else None for gradient, want in zip(gradients, wanted, strict=True)]
    return *kept, *[None] * 9


def _refuse(ctx: Any, *_: Any) -> None:
    raise RuntimeError("late_interaction cannot be differentiated twice; impl='reference' can")


def _forward_flops(video: Sequence[int], text: Sequence[int], *_: Any, **__: Any) -> int:
    return 2 * video[0] * video[1] * text[0] * text[1]


def _backward_flops(video: Sequence[int], text: Sequence[int], *inputs: Any, **__: Any) -> int:
    *_, wanted, _ = inputs
    return int(sum(wanted)) * _forward_flops(video, text)


torch_forward.register_autograd(_differentiate, setup_context=_keep)
torch_backward.register_autograd(_refuse, setup_context=lambda ctx, inputs, output: None)
register_autocast("late_interaction")  # its gradient keeps the dtypes that the forward took
register_flops("late_interaction", _forward_flops)
register_flops("late_interaction_backward", _backward_flops)
