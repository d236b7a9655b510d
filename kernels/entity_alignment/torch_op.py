"""Entity alignment as torch knows it: two registered ops, their shapes, gradients, autocast and FLOPs.

The arguments up to `seed` are those of `Problem`.
"""

from collections.abc import Sequence
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from ..library import register_autocast, register_flops
from . import cpu
from .problem import Problem, wide


def _path(impl: str) -> ModuleType:
    if impl == "cpu":
        return cpu
    from . import triton

    return triton


@torch.library.custom_op("reelmill::align_entities", mutates_args=())
def torch_forward(
    region: Tensor, entity: Tensor, scale: Tensor, noise: Tensor | None, seed: Tensor | None, impl: str
) -> tuple[Tensor, Tensor, Tensor]:
    """Aligned entities (R, D), their indices (R,) int64, and their logits (R,) in the wide dtype."""
    outputs: tuple[Tensor, Tensor, Tensor] = _path(impl).forward(Problem(region, entity, scale, noise, seed))
    return outputs


@torch.library.custom_op("reelmill::align_entities_backward", mutates_args=())
def torch_backward(
    region: Tensor,
    entity: Tensor,
    scale: Tensor,
    noise: Tensor | None,
    seed: Tensor | None,
    index: Tensor,
    best: Tensor,
    grad: Tensor,
    wanted: Sequence[bool],
    impl: str,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of the regions (R, D), the entities (K, D) and the scale, empty where not wanted."""
    problem = Problem(region, entity, scale, noise, seed)
    gradients: tuple[Tensor, Tensor, Tensor] = _path(impl).backward(problem, index, best, grad, wanted)
    return gradients


@torch_forward.register_fake
def _forward_shapes(region: Tensor, entity: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    R = region.shape[0]
    return (
        entity.new_empty((R, entity.shape[1])),
        region.new_empty((R,), dtype=torch.int64),
        region.new_empty((R,), dtype=wide(region.dtype)),
    )


@torch_backward.register_fake
def _backward_shapes(region: Tensor, entity: Tensor, scale: Tensor, *inputs: Any) -> tuple[Tensor, ...]:
    *_, wanted, _ = inputs
    sides = zip((region, entity, scale), wanted, strict=True)
    return tuple(side.new_empty(side.shape if want else 0) for side, want in sides)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *problem, ctx.impl = inputs
    ctx.save_for_backward(*problem, *output[1:])
    ctx.mark_non_differentiable(*output[1:])


def _differentiate(ctx: Any, grad: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
    wanted = list(ctx.needs_input_grad[:3])
    gradients = torch_backward(*ctx.saved_tensors, grad, wanted, ctx.impl)
    kept = [gradient if want else None for gradient, want in zip(gradients, wanted, strict=True)]
    return *kept, None, None, None


def _refuse(ctx: Any, *_: Any) -> None:
    raise RuntimeError("align_entities cannot be differentiated twice; impl='reference' can")


def _forward_flops(region: Sequence[int], entity: Sequence[int], *_: Any, **__: Any) -> int:
    return 2 * region[0] * entity[0] * region[1]


def _backward_flops(region: Sequence[int], entity: Sequence[int], *inputs: Any, **__: Any) -> int:
    """The logits again, their gradient, and a product for each side that learns."""
    *_, (of_region, of_entity, of_scale), _ = inputs
    return int(2 + (of_region or of_scale) + of_entity) * _forward_flops(region, entity)


torch_forward.register_autograd(_differentiate, setup_context=_keep)
torch_backward.register_autograd(_refuse, setup_context=lambda ctx, inputs, output: None)
register_autocast("align_entities", leading=2)  # scale and noise stay wide; its gradient keeps the dtypes that it took
register_flops("align_entities", _forward_flops)
register_flops("align_entities_backward", _backward_flops)
