"""Late interaction beside what one writes without it.

B videos, V frames, C classes, P prompts of all classes, L prompts of the longest class, D width.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from ..kernels import Segments, late_interaction
from ..kernels.late_interaction.ahead import launches
from .cases import LATE_INTERACTION, LateInteractionCase
from .compare import Comparison, Version, hold_to_budget


class Inputs(NamedTuple):
    """Unit vectors of one case. The eager version gets its text padded, outside the time."""

    video_BVD: Tensor
    text_PD: Tensor
    text_CLD: Tensor
    segments: Segments
    valid_BV: Tensor | None
    present_CL: Tensor | None
    upstream: Tensor

    @property
    def leaves(self) -> tuple[Tensor, ...]:
        """What gets a gradient."""
        return self.video_BVD, self.text_PD, self.text_CLD

    def to(self, dtype: torch.dtype) -> "Inputs":
        """The same numbers in another dtype, as leaves of their own."""
        sides = {name: getattr(self, name) for name in ("video_BVD", "text_PD", "text_CLD")}
        return self._replace(**{name: side.detach().to(dtype).requires_grad_() for name, side in sides.items()})


def make_inputs(case: LateInteractionCase, dtype: torch.dtype, device: torch.device) -> Inputs:
    """The same numbers on every machine."""
    random = torch.Generator().manual_seed(0)
    unit = torch.nn.functional.normalize
    segments = Segments.from_lengths(case.lengths)
    text_PD = unit(torch.randn(segments.total, case.width, generator=random), dim=-1)
    present_CL = torch.arange(segments.longest) < torch.tensor(case.lengths)[:, None]
    valid_BV = (torch.arange(case.videos * case.frames) % 4 != 3).view(case.videos, case.frames)
    return Inputs(
        video_BVD=unit(torch.randn(case.videos, case.frames, case.width, generator=random), dim=-1).to(device),
        text_PD=text_PD.to(device),
        text_CLD=torch.nn.utils.rnn.pad_sequence(list(torch.split(text_PD, list(case.lengths))), batch_first=True).to(
            device
        ),
        segments=segments.to(device),
        valid_BV=valid_BV.to(device) if case.masked else None,
        present_CL=None if present_CL.all() else present_CL.to(device),
        upstream=torch.randn(case.videos, len(case.lengths), generator=random).to(device),
    ).to(dtype)


def fused(inputs: Inputs) -> Tensor:
    """What reelmill runs."""
    return late_interaction(inputs.video_BVD, inputs.text_PD, inputs.segments, video_mask_BV=inputs.valid_BV)


def eager(inputs: Inputs) -> Tensor:
    """What one writes without it: AP-CLIP Eq. 4-6 over padded classes."""
    similarity_BCVL = torch.einsum("bvd,cld->bcvl", inputs.video_BVD, inputs.text_CLD)
    present_C1L = None if inputs.present_CL is None else inputs.present_CL[:, None]
    valid_B1V = None if inputs.valid_BV is None else inputs.valid_BV[:, None]
    to_text_BC = _mean(_hide(similarity_BCVL, present_C1L).amax(3), valid_B1V)
    valid_B1V1 = None if valid_B1V is None else valid_B1V[..., None]
    to_video_BC = _mean(_hide(similarity_BCVL, valid_B1V1).amax(2), inputs.present_CL)
    return 0.5 * (to_text_BC + to_video_BC)


def _hide(values: Tensor, kept: Tensor | None) -> Tensor:
    return values if kept is None else values.masked_fill(~kept, -torch.inf)


def _mean(values: Tensor, kept: Tensor | None) -> Tensor:
    return values.mean(-1) if kept is None else values.masked_fill(~kept, 0).sum(-1) / kept.sum(-1)


def verify(case: LateInteractionCase, inputs: Inputs) -> None:
    """Hold the op, with its gradients, to twice the error that eager makes in float32, and a last digit.

    Raises:
        ReelmillError: it errs more.
    """
    truth, theirs, mine = (
        _results(version, inputs.to(dtype))
        for version, dtype in ((eager, torch.float64), (eager, torch.float32), (fused, inputs.video_BVD.dtype))
    )
    for name, *results in zip(("scores", "video gradient", "text gradient"), truth, theirs, mine, strict=True):
        hold_to_budget(f"late_interaction, {case.name}: {name}", *results)


def _results(version: Version, inputs: Inputs) -> tuple[Tensor, Tensor, Tensor]:
    scores_BC: Tensor = version(inputs)
    torch.autograd.backward(scores_BC, inputs.upstream.to(scores_BC.dtype))
    text_grad = inputs.text_PD.grad
    if text_grad is None:
        padded_grad = inputs.text_CLD.grad
        assert padded_grad is not None
        text_grad = padded_grad.flatten(0, 1) if inputs.present_CL is None else padded_grad[inputs.present_CL]
    assert inputs.video_BVD.grad is not None
    return scores_BC.detach(), inputs.video_BVD.grad, text_grad


COMPARISON = Comparison(
    cases=LATE_INTERACTION, make_inputs=make_inputs, fused=fused, eager=eager, verify=verify, launches=launches
)
