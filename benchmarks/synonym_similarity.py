"""The loss of classes that are means of synonyms, beside what one writes without it: means first, then one product.

B videos, C classes, P synonyms of all classes, N synonyms of all negatives, D width.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, linear_cross_entropy, normalize

from ..kernels import Segments, synonym_cross_entropy
from ..kernels.synonym_similarity.ahead import launches
from .cases import SYNONYMS, SynonymsCase
from .compare import Comparison, Version, hold_to_budget


class Inputs(NamedTuple):
    """Embeddings of one case, of no particular length."""

    video_BD: Tensor
    text_PD: Tensor
    negative_ND: Tensor | None
    scale: Tensor
    segments: Segments
    negative_segments: Segments | None
    target_B: Tensor
    upstream: Tensor

    @property
    def leaves(self) -> tuple[Tensor, ...]:
        """What gets a gradient."""
        sides = self.video_BD, self.text_PD, self.scale
        return sides if self.negative_ND is None else (*sides, self.negative_ND)

    def to(self, dtype: torch.dtype) -> "Inputs":
        """The same numbers in another dtype, as leaves of their own; the scale stays float32, or is float64."""
        names = ("video_BD", "text_PD", "negative_ND")
        sides: dict[str, Any] = {name: getattr(self, name) for name in names}
        sides = {name: side if side is None else side.detach().to(dtype) for name, side in sides.items()}
        scale = self.scale.detach().to(torch.float64 if dtype == torch.float64 else torch.float32, copy=True)
        inputs = self._replace(**sides, scale=scale)
        for leaf in inputs.leaves:
            leaf.requires_grad_()
        return inputs


def make_inputs(case: SynonymsCase, dtype: torch.dtype, device: torch.device) -> Inputs:
    """The same numbers on every machine."""
    random = torch.Generator().manual_seed(0)
    segments, negative_segments, negative_ND = Segments.from_lengths(case.lengths, device), None, None
    video_BD = torch.randn(case.videos, case.width, generator=random)
    text_PD = torch.randn(segments.total, case.width, generator=random)
    if case.negative_synonyms:
        negative_segments = Segments.from_lengths([case.negative_synonyms] * case.videos, device)
        negative_ND = torch.randn(negative_segments.total, case.width, generator=random).to(device)
    return Inputs(
        video_BD=video_BD.to(device),
        text_PD=text_PD.to(device),
        negative_ND=negative_ND,
        scale=torch.tensor(50.0, device=device),
        segments=segments,
        negative_segments=negative_segments,
        target_B=torch.randint(0, len(case.lengths), (case.videos,), generator=random).to(device),
        upstream=torch.randn(case.videos, generator=random).to(device),
    ).to(dtype)


def fused(inputs: Inputs) -> Tensor:
    """What reelmill runs."""
    return synonym_cross_entropy(
        inputs.video_BD, inputs.text_PD, inputs.segments, inputs.target_B, scale=inputs.scale,
        negative_PD=inputs.negative_ND, negative_offsets=inputs.negative_segments, reduction="none",
    )  # fmt: skip


def eager(inputs: Inputs) -> Tensor:
    """What one writes without it: class vectors first, one product, the score of the negative beside the others."""
    video_BD = normalize(inputs.video_BD, dim=1)
    scores_BC = inputs.scale * (video_BD @ _means(inputs.text_PD, inputs.segments).T)
    if inputs.negative_ND is not None and inputs.negative_segments is not None:
        negative_BD = _means(inputs.negative_ND, inputs.negative_segments)
        own_B1 = inputs.scale * (video_BD * negative_BD).sum(1, keepdim=True)
        scores_BC = torch.cat([scores_BC, own_B1], dim=1)
    return cross_entropy(scores_BC, inputs.target_B, reduction="none")


def native(inputs: Inputs) -> Tensor:
    """The same with torch's own fused loss, which has no negatives of single videos."""
    video_BD = inputs.scale.to(inputs.video_BD.dtype) * normalize(inputs.video_BD, dim=1)
    means_CD = _means(inputs.text_PD, inputs.segments)
    return linear_cross_entropy(video_BD, means_CD, inputs.target_B, reduction="none")


def peers(case: SynonymsCase) -> dict[str, Version]:
    """`native` where it can do what the case asks for."""
    return {} if case.negative_synonyms else {"native": native}


def _means(text_PD: Tensor, segments: Segments) -> Tensor:
    unit_PD = normalize(text_PD, dim=1)
    if len(set(segments.lengths)) == 1:
        return unit_PD.view(len(segments), segments.longest, -1).mean(1)
    sums_CD = unit_PD.new_zeros(len(segments), unit_PD.shape[1]).index_add(0, segments.owners, unit_PD)
    return sums_CD / segments.offsets.diff()[:, None]


def verify(case: SynonymsCase, inputs: Inputs) -> None:
    """Hold the op, with its gradients, to twice the error that eager makes in float32, and a last digit.

    Raises:
        ReelmillError: it errs more.
    """
    truth, theirs, mine = (
        _results(version, inputs.to(dtype))
        for version, dtype in ((eager, torch.float64), (eager, torch.float32), (fused, inputs.video_BD.dtype))
    )
    names = ("loss", "video gradient", "text gradient", "scale gradient", "negatives gradient")
    for name, *results in zip(names, truth, theirs, mine, strict=False):
        hold_to_budget(f"synonym_cross_entropy, {case.name}: {name}", *results)


def _results(version: Version, inputs: Inputs) -> tuple[Tensor, ...]:
    loss_B: Tensor = version(inputs)
    upstream_B = inputs.upstream.to(loss_B.dtype)
    video, text, scale, *negatives = torch.autograd.grad(loss_B, inputs.leaves, upstream_B)
    # The gradient of the scale is one sum, which may cancel: its last digit is that of what is added up.
    scale_2 = torch.stack([scale, inputs.upstream.abs().sum().to(scale)])
    return loss_B.detach(), video, text, scale_2, *negatives


COMPARISON = Comparison(
    cases=SYNONYMS, make_inputs=make_inputs, fused=fused, eager=eager, verify=verify, launches=launches, peers=peers
)
