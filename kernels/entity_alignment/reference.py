"""Entity alignment in plain PyTorch, as its equations read: the oracle of the other implementations.

It holds all R x K logits, and differentiates by autograd, twice if need be.

R regions, K entities, D width.
"""

from torch import Tensor
from torch.nn.functional import one_hot

from .noise import gumbel_noise, noise_keys
from .problem import inverse_lengths, wide


def align_reference(
    region_RD: Tensor, entity_KD: Tensor, scale: Tensor, noise_RK: Tensor | None, seed: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Aligned entities (R, D) and their indices (R,); see the op."""
    dtype = wide(region_RD.dtype)
    unit_RD, unit_KD = (side.to(dtype) * inverse_lengths(side)[:, None] for side in (region_RD, entity_KD))
    logits_RK = scale * (unit_RD @ unit_KD.T)
    if seed is not None:
        noise_RK = gumbel_noise(*noise_keys(seed, *logits_RK.shape), dtype)
    if noise_RK is not None:
        logits_RK = logits_RK + noise_RK
    soft_RK = logits_RK.softmax(1)
    index_R = logits_RK.argmax(1)
    # In this order the difference is 0, or NaN: one_hot + soft - soft would be rounded.
    hard_RK = one_hot(index_R, len(entity_KD)).to(dtype) + (soft_RK - soft_RK.detach())
    return (hard_RK @ entity_KD.to(dtype)).to(entity_KD.dtype), index_R
