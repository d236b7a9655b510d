"""Entity alignment beside what one writes without it.

R regions, K entities, D width.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import gumbel_softmax, normalize

from ..kernels import align_entities
from ..kernels.entity_alignment.ahead import launches
from ..kernels.entity_alignment.noise import gumbel_noise, noise_keys
from .cases import ENTITY_ALIGNMENT, EntityAlignmentCase
from .compare import Comparison, hold_to_budget

SCALE = 100.0
"""CLIP's logit scale after training."""


class Inputs(NamedTuple):
    """Regions and entities of one case."""

    region_RD: Tensor
    entity_KD: Tensor
    seed: Tensor | None
    learned: bool
    upstream: Tensor

    @property
    def leaves(self) -> tuple[Tensor, ...]:
        """What gets a gradient."""
        return (self.region_RD, self.entity_KD) if self.learned else (self.region_RD,)

    def to(self, dtype: torch.dtype) -> "Inputs":
        """The same numbers in another dtype, as leaves of their own."""
        sides = {name: getattr(self, name).detach().to(dtype) for name in ("region_RD", "entity_KD")}
        inputs = self._replace(**sides)
        for leaf in inputs.leaves:
            leaf.requires_grad_()
        return inputs


def make_inputs(case: EntityAlignmentCase, dtype: torch.dtype, device: torch.device) -> Inputs:
    """The same numbers on every machine."""
    random = torch.Generator().manual_seed(0)
    return Inputs(
        region_RD=torch.randn(case.regions, case.width, generator=random).to(device),
        entity_KD=torch.randn(case.entities, case.width, generator=random).to(device),
        seed=torch.tensor(1, device=device) if case.noise else None,
        learned=case.learned,
        upstream=torch.randn(case.regions, case.width, generator=random).to(device, dtype),
    ).to(dtype)


def fused(inputs: Inputs) -> Tensor:
    """What reelmill runs."""
    return align_entities(inputs.region_RD, inputs.entity_KD, scale=SCALE, seed=inputs.seed)[0]


def eager(inputs: Inputs) -> Tensor:
    """What one writes without it: torch's straight-through Gumbel softmax of cosines, times the entities."""
    logits_RK = _logits(inputs)
    if inputs.seed is not None:
        return gumbel_softmax(logits_RK, hard=True, dim=1) @ inputs.entity_KD
    soft_RK = logits_RK.softmax(1)
    hard_RK = torch.zeros_like(soft_RK).scatter_(1, soft_RK.argmax(1, keepdim=True), 1.0)
    return (hard_RK - soft_RK.detach() + soft_RK) @ inputs.entity_KD


def _logits(inputs: Inputs) -> Tensor:
    return SCALE * (normalize(inputs.region_RD, dim=1) @ normalize(inputs.entity_KD, dim=1).T)


def verify(case: EntityAlignmentCase, inputs: Inputs) -> None:
    """Hold the op, with its gradients, to twice the error that plain PyTorch makes in float32, and a last digit.

    Rounding may choose another entity among near equals: a choice is worth its logit, and gradients are compared for
    the same choice.

    Raises:
        ReelmillError: it errs more.
    """
    exact, near = inputs.to(torch.float64), inputs.to(torch.float32)
    logits_RK = _noisy_logits(exact).detach()
    truth, theirs = (_soft_gradients(side) for side in (exact, near))
    aligned_RD, index_R = align_entities(inputs.region_RD, inputs.entity_KD, scale=SCALE, seed=inputs.seed)
    near_R = _noisy_logits(near).argmax(1)
    worth_R, near_worth_R = (logits_RK.gather(1, index[:, None]).float() for index in (index_R, near_R))
    name = f"entity_alignment, {case.name}"
    hold_to_budget(f"{name}: best logit", logits_RK.amax(1, keepdim=True), near_worth_R, worth_R)
    rows_RD = inputs.entity_KD.detach()[index_R]
    hold_to_budget(f"{name}: rows", rows_RD.double(), rows_RD, aligned_RD.detach())

    mine = torch.autograd.grad(aligned_RD, inputs.leaves, inputs.upstream.to(aligned_RD.dtype))
    if inputs.learned:
        for side in (truth, theirs):
            side[1].index_add_(0, index_R, inputs.upstream.to(side[1].dtype))
    for what, *results in zip(("region gradient", "entity gradient"), truth, theirs, mine, strict=False):
        hold_to_budget(f"{name}: {what}", *results)


def _noisy_logits(inputs: Inputs) -> Tensor:
    logits_RK = _logits(inputs)
    if inputs.seed is None:
        return logits_RK
    return logits_RK + gumbel_noise(*noise_keys(inputs.seed, *logits_RK.shape), logits_RK.dtype)


def _soft_gradients(inputs: Inputs) -> tuple[Tensor, ...]:
    """What flows through the softmax."""
    soft_RD = _noisy_logits(inputs).softmax(1) @ inputs.entity_KD.detach()
    return torch.autograd.grad(soft_RD, inputs.leaves, inputs.upstream.to(soft_RD.dtype))


COMPARISON = Comparison(
    cases=ENTITY_ALIGNMENT, make_inputs=make_inputs, fused=fused, eager=eager, verify=verify, launches=launches
)
