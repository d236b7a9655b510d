"""The public op: straight-through alignment of regions with entities, ALT Eq. 4-5.

R regions, K entities, D width.
"""

import math
from typing import cast

import torch
from torch import Tensor

from ..library import Impl, choose
from .problem import wide
from .reference import align_reference
from .torch_op import torch_forward

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def align_entities(
    region_RD: Tensor,
    entity_KD: Tensor,
    *,
    scale: float | Tensor,
    noise_RK: Tensor | None = None,
    seed: int | Tensor | None = None,
    impl: Impl = "auto",
) -> tuple[Tensor, Tensor]:
    """Give every region the entity that it is most like, as if the choice were soft to its gradient.

    logits[i, j] = scale * cos(region[i], entity[j]) + noise[i, j]; aligned[i] = entity[argmax_j logits[i, j]]; the
    gradient is that of (one_hot(argmax) + A - A.detach()) @ entity with A = softmax(logits). Ties go to the lowest
    index. A region or entity of length 0 has cosine 0 with all, and no gradient from cosines. A region with a NaN
    among its logits gets the index of its first NaN, and a row of NaN.

    Args:
        region_RD: (R, D) embeddings of regions, fp16, bf16, fp32 or fp64, any strides; lengths do not matter.
        entity_KD: (K, D) embeddings of entities in the dtype of `region_RD`, K >= 1.
        scale: of the cosines, finite; a 0-d floating-point tensor may get a gradient. The paper prints none, that is
            1; CLIP's exp(logit_scale) makes the choice follow the cosines rather than the noise.
        noise_RK: (R, K) fp32 (fp64 beside fp64), added to the logits. -inf rules an entity out. It gets no gradient,
            and must not ask for one.
        seed: draws Gumbel(0, 1) noise for each region and entity instead, a pure function of the seed and of both
            positions: an int of 64 bits, or a 0-d int64 tensor on the device of `region_RD`, whose value is not read
            back (so that a CUDA graph or a compiled function can get a new one). Calls with one seed draw the same.
        impl: "auto" takes Triton on CUDA and the blocked path on the CPU.

    Returns:
        (R, D) the rows of the chosen entities, to the bit; and (R,) int64 which they are.

    Raises:
        ValueError: shapes, dtypes or devices disagree or are not supported, `noise_RK` and `seed` are both given, or
            `noise_RK` requires a gradient.
        RuntimeError: the gradient is differentiated again (except with `impl="reference"`).
    Source:
        ALT, Eq. 4-5. Differs from them by: a scale, noise of its own for each region, ties, NaN and lengths of 0.
    """
    path = choose(impl, region_RD)
    _check_sides(region_RD, entity_KD)
    if noise_RK is not None:
        _check_noise(noise_RK, region_RD, entity_KD, seed)
    scale = _as_scale(scale, region_RD)
    if seed is not None:
        seed = _as_seed(seed, region_RD)
    if path == "reference":
        return align_reference(region_RD, entity_KD, scale, noise_RK, seed)
    outputs = cast(tuple[Tensor, ...], torch_forward(region_RD, entity_KD, scale, noise_RK, seed, path))
    return outputs[0], outputs[1]


def _check_sides(region_RD: Tensor, entity_KD: Tensor) -> None:
    if region_RD.dim() != 2 or region_RD.shape[1] == 0:
        raise ValueError(f"region_RD must have shape (R, D) with D >= 1, got {tuple(region_RD.shape)}")
    if entity_KD.dim() != 2 or entity_KD.shape[0] == 0 or entity_KD.shape[1] != region_RD.shape[1]:
        want = f"(K, {region_RD.shape[1]}) with K >= 1, the D of region_RD"
        raise ValueError(f"entity_KD must have shape {want}, got {tuple(entity_KD.shape)}")
    if region_RD.dtype not in DTYPES:
        raise ValueError(f"region_RD must be float16, bfloat16, float32 or float64, got {region_RD.dtype}")
    if entity_KD.dtype != region_RD.dtype and not torch.is_autocast_enabled(region_RD.device.type):
        raise ValueError(f"entity_KD must be {region_RD.dtype} (the dtype of region_RD), got {entity_KD.dtype}")
    _check_device("entity_KD", entity_KD, region_RD)


def _check_noise(noise_RK: Tensor, region_RD: Tensor, entity_KD: Tensor, seed: int | Tensor | None) -> None:
    if seed is not None:
        raise ValueError("noise_RK and seed must not both be given: the seed draws noise")
    want, dtype = (region_RD.shape[0], entity_KD.shape[0]), wide(region_RD.dtype)
    if noise_RK.shape != want or noise_RK.dtype != dtype:
        raise ValueError(
            f"noise_RK must be {dtype} {want} (the R, K of the sides), got {noise_RK.dtype} {tuple(noise_RK.shape)}"
        )
    if noise_RK.requires_grad:
        raise ValueError("noise_RK must not require a gradient: detach it")
    _check_device("noise_RK", noise_RK, region_RD)


def _as_scale(scale: float | Tensor, region_RD: Tensor) -> Tensor:
    dtype = wide(region_RD.dtype)
    if not isinstance(scale, Tensor):
        if not abs(scale) < math.inf:
            raise ValueError(f"scale must be finite, got {scale}")
        return torch.full((), scale, dtype=dtype, device=region_RD.device)
    if scale.dim() != 0 or not scale.is_floating_point():
        raise ValueError(f"scale must be a number or a 0-d float tensor, got {scale.dtype} {tuple(scale.shape)}")
    _check_device("scale", scale, region_RD)
    return scale.to(dtype)


def _as_seed(seed: int | Tensor, region_RD: Tensor) -> Tensor:
    if isinstance(seed, Tensor):
        if seed.dim() != 0 or seed.dtype != torch.int64:
            raise ValueError(f"seed must be an int or a 0-d int64 tensor, got {seed.dtype} {tuple(seed.shape)}")
        _check_device("seed", seed, region_RD)
        return seed
    if isinstance(seed, (bool, float)) or not -(2**63) <= seed < 2**63:
        raise ValueError(f"seed must be an integer of 64 bits, or a 0-d int64 tensor, got {seed!r}")
    return torch.full((), seed, dtype=torch.int64, device=region_RD.device)


def _check_device(name: str, tensor: Tensor, region_RD: Tensor) -> None:
    if tensor.device != region_RD.device:
        raise ValueError(f"{name} must be on {region_RD.device} (the device of region_RD), got {tensor.device}")
