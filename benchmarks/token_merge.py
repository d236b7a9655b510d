"""Matching and merging tokens beside what one writes without it.

B images, N tokens of each, M after merging, D width, K width of the metric.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..kernels import Matching, match_tokens, merge_tokens
from ..kernels.token_merge.reference import match_reference, merge_reference
from .cases import TokenMergeCase
from .compare import hold_to_budget


class Inputs(NamedTuple):
    """Tokens of one case, after some merging: their sizes differ."""

    metric_BNK: Tensor
    x_BND: Tensor
    residual_BND: Tensor | None
    size_BN: Tensor
    r: int
    upstream: Tensor

    @property
    def leaves(self) -> tuple[Tensor, ...]:
        """What gets a gradient."""
        return (self.x_BND,) if self.residual_BND is None else (self.x_BND, self.residual_BND)

    def to(self, dtype: torch.dtype) -> "Inputs":
        """The same numbers in another dtype, as leaves of their own; sizes stay float32, or are float64."""
        sides: dict[str, Any] = {name: getattr(self, name) for name in ("x_BND", "residual_BND")}
        sides = {name: side if side is None else side.detach().to(dtype) for name, side in sides.items()}
        size_BN = self.size_BN.to(torch.float64 if dtype == torch.float64 else torch.float32)
        inputs = self._replace(**sides, size_BN=size_BN, metric_BNK=self.metric_BNK.to(dtype))
        for leaf in inputs.leaves:
            leaf.requires_grad_()
        return inputs


def make_inputs(case: TokenMergeCase, dtype: torch.dtype, device: torch.device) -> Inputs:
    """The same numbers on every machine."""
    random = torch.Generator().manual_seed(0)
    shape = case.images, case.tokens, case.width
    return Inputs(
        metric_BNK=torch.randn(*shape[:2], case.metric_width, generator=random).to(device),
        x_BND=torch.randn(shape, generator=random).to(device),
        residual_BND=torch.randn(shape, generator=random).to(device) if case.residual else None,
        size_BN=torch.randint(1, 4, shape[:2], generator=random).float().to(device),
        r=case.r,
        upstream=torch.randn(case.images, case.tokens - case.r, case.width, generator=random).to(device),
    ).to(dtype)


def fused(inputs: Inputs) -> Tensor:
    """What reelmill runs."""
    matching = match_tokens(inputs.metric_BNK, inputs.r)
    return merge_tokens(inputs.x_BND, matching, size_BN=inputs.size_BN, residual_BND=inputs.residual_BND)[0]


def eager(inputs: Inputs) -> Tensor:
    """What one writes without it, after the description in ToMe, section 3, with the sizes of its section 3.1."""
    stay_BE1, away_Br1, into_Br1 = eager_match(inputs)
    x_BND = inputs.x_BND if inputs.residual_BND is None else inputs.x_BND + inputs.residual_BND

    def merge(values_BNW: Tensor) -> Tensor:
        even_BEW, odd_BOW = values_BNW[:, ::2], values_BNW[:, 1::2]
        width = values_BNW.shape[2]
        kept_BEW = even_BEW.gather(1, stay_BE1.expand(-1, -1, width))
        moved_BrW = even_BEW.gather(1, away_Br1.expand(-1, -1, width))
        grown_BOW = odd_BOW.scatter_reduce(1, into_Br1.expand(-1, -1, width), moved_BrW, reduce="sum")
        return torch.cat([kept_BEW, grown_BOW], dim=1)

    size_BN1 = inputs.size_BN[:, :, None]
    return (merge(x_BND * size_BN1) / merge(size_BN1)).to(x_BND.dtype)


def eager_match(inputs: Inputs) -> tuple[Tensor, Tensor, Tensor]:
    """Even tokens that stay, those that merge away, and the odd ones that they merge into, each (B, ..., 1)."""
    unit_BNK = inputs.metric_BNK / inputs.metric_BNK.norm(dim=-1, keepdim=True)
    similarity_BEO = unit_BNK[:, ::2] @ unit_BNK[:, 1::2].transpose(1, 2)
    similarity_BEO[:, 0] = -torch.inf
    best_BE, partner_BE = similarity_BEO.max(2)
    order_BE = best_BE.argsort(dim=1, descending=True)
    away_Br = order_BE[:, : inputs.r]
    stay_BE = order_BE[:, inputs.r :].sort(1).values
    return stay_BE[:, :, None], away_Br[:, :, None], partner_BE.gather(1, away_Br)[:, :, None]


def fused_match(inputs: Inputs) -> Matching:
    """The matching alone, as reelmill runs it."""
    return match_tokens(inputs.metric_BNK, inputs.r)


def verify(case: TokenMergeCase, inputs: Inputs) -> None:
    """Hold matching and merging to twice the error that plain PyTorch makes in float32, and a last digit.

    A matching errs by the similarity that it misses: rounding may make another choice among near equals.

    Raises:
        ReelmillError: one errs more.
    """
    exact, near = inputs.to(torch.float64), inputs.to(torch.float32)
    matching = fused_match(inputs)
    gained = [
        _gain(exact.metric_BNK, chosen)
        for chosen in (*(match_reference(side.metric_BNK, case.r, 1) for side in (exact, near)), matching)
    ]
    hold_to_budget(f"match_tokens, {case.name}: similarity", *gained)
    results = []
    for side in (exact, near, inputs):
        arguments = side.x_BND, side.residual_BND, side.size_BN, matching
        if side is inputs:
            merged_BMD, _ = merge_tokens(arguments[0], matching, residual_BND=arguments[1], size_BN=arguments[2])
        else:
            merged_BMD, _ = merge_reference(*arguments)
        gradient = torch.autograd.grad(merged_BMD, side.x_BND, side.upstream.to(merged_BMD.dtype))
        results.append((merged_BMD.detach(), *gradient))
    for name, *three in zip(("tokens", "gradient"), *results, strict=True):
        hold_to_budget(f"merge_tokens, {case.name}: {name}", *three)


def _gain(metric_BNK: Tensor, matching: Matching) -> Tensor:
    """(B,) the cosines of the pairs that merge, added up."""
    unit_BNK = torch.nn.functional.normalize(metric_BNK, dim=2)
    kept = metric_BNK.shape[1] - metric_BNK.shape[1] // 2 - (matching.tokens - matching.merged)
    into_BE = matching.target_BN[:, ::2].long() - kept  # negative for those that stay
    partner_BEK = unit_BNK[:, 1::2].gather(1, into_BE.clamp(min=0)[:, :, None].expand(-1, -1, unit_BNK.shape[2]))
    return ((unit_BNK[:, ::2] * partner_BEK).sum(2) * (into_BE >= 0)).sum(1)
