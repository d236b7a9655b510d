"""Matching and merging tokens beside what one writes without it.

B images, N tokens of each, M after merging, D width, K width of the metric.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..kernels import Matching, match_tokens, merge_tokens
from ..kernels.token_merge.ahead import match_launches, merge_launches
from ..kernels.token_merge.reference import match_reference, merge_reference
from .cases import TOKEN_MERGE, TokenMergeCase
from .compare import Comparison, hold_to_budget


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
    """What reelmill runs: matching and merging."""
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


def verify_match(case: TokenMergeCase, inputs: Inputs) -> None:
    """Hold matching to twice the error that plain PyTorch makes in float32, and a last digit.

    It errs by the similarity that it misses: rounding may make another choice among near equals.

    Raises:
        ReelmillError: it errs more.
    """
    metric_BNK = inputs.metric_BNK.double()
    exact, near = (match_reference(inputs.metric_BNK.to(dtype), case.r, 1) for dtype in (torch.float64, torch.float32))
    truth, *gains = (_gain(metric_BNK, matching) for matching in (exact, near, fused_match(inputs)))
    # Cosines have the digits of float32: so has what they add up to, and near ties cost no more than the last.
    hold_to_budget(f"match_tokens, {case.name}: similarity", truth, *(gain.float() for gain in gains))


def verify(case: TokenMergeCase, inputs: Inputs) -> None:
    """The same for matching and for merging by its choice, with the gradients.

    Raises:
        ReelmillError: one errs more.
    """
    verify_match(case, inputs)
    matching = fused_match(inputs)
    truth, near = (
        _results(side, merge_reference(side.x_BND, side.residual_BND, side.size_BN, matching)[0])
        for side in (inputs.to(torch.float64), inputs.to(torch.float32))
    )
    names = ("tokens", "gradient", "residual gradient")
    for name, *results in zip(names, truth, near, _results(inputs, fused(inputs)), strict=False):
        hold_to_budget(f"token_merge, {case.name}: {name}", *results)


def _results(inputs: Inputs, merged_BMD: Tensor) -> tuple[Tensor, ...]:
    upstream = inputs.upstream.to(merged_BMD.dtype)
    return merged_BMD.detach(), *torch.autograd.grad(merged_BMD, inputs.leaves, upstream)


def _gain(metric_BNK: Tensor, matching: Matching) -> Tensor:
    """(B,) the cosines of the pairs that merge, added up."""
    unit_BNK = torch.nn.functional.normalize(metric_BNK, dim=2)
    kept = metric_BNK.shape[1] - metric_BNK.shape[1] // 2 - (matching.tokens - matching.merged)
    into_BE = matching.target_BN[:, ::2].long() - kept  # negative for those that stay
    partner_BEK = unit_BNK[:, 1::2].gather(1, into_BE.clamp(min=0)[:, :, None].expand(-1, -1, unit_BNK.shape[2]))
    return ((unit_BNK[:, ::2] * partner_BEK).sum(2) * (into_BE >= 0)).sum(1)


MATCH_COMPARISON = Comparison(
    cases=TOKEN_MERGE,
    make_inputs=make_inputs,
    fused=fused_match,
    eager=eager_match,
    verify=verify_match,
    launches=match_launches,
    runs=("forward",),  # a matching has no gradient
)

MERGE_COMPARISON = Comparison(
    cases=TOKEN_MERGE, make_inputs=make_inputs, fused=fused, eager=eager, verify=verify, launches=merge_launches
)
