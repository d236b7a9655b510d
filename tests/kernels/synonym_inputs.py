"""Inputs of the synonym tests, and how far from the truth the results of an implementation may be."""

from collections.abc import Sequence
from typing import Any

import torch
from reelmill.kernels import Segments, synonym_cross_entropy, synonym_similarity
from torch import Tensor


class SynonymInputs:
    """Random videos, synonyms of classes and negatives, and upstream gradients. Neither side has length 1."""

    def __init__(
        self,
        B: int,
        lengths: Sequence[int],
        D: int,
        *,
        groups: Sequence[int] | None = None,
        own: bool = False,
        ignored: bool = False,
        smoothing: float = 0.0,
        normalize: bool = True,
    ) -> None:
        """`groups` are the lengths of groups of negatives, one for each video in order if `own`, else drawn."""
        random = torch.Generator().manual_seed(B * D + len(lengths))
        self.segments = Segments.from_lengths(lengths)
        self.video_BD = torch.randn(B, D, generator=random)
        self.text_PD = torch.randn(sum(lengths), D, generator=random)
        self.target_B = torch.randint(0, len(lengths), (B,), generator=random)
        if ignored:
            self.target_B[::3] = -100
        self.scale = torch.tensor(20.0 if normalize else 0.3)
        self.negative_ND: Any = None
        self.negative_B: Any = None
        self.negative_segments: Segments | None = None
        if groups:
            self.negative_segments = Segments.from_lengths(groups)
            self.negative_ND = torch.randn(sum(groups), D, generator=random)
            self.negative_B = None if own else torch.randint(-1, len(groups), (B,), generator=random)
        self.up_B, self.up_lse_B = torch.randn(2, B, generator=random).unbind()
        self.up_BC = torch.randn(B, len(lengths), generator=random)
        self.options: dict[str, Any] = {"label_smoothing": smoothing}
        self.normalize = normalize

    def leaves(self, dtype: torch.dtype, compute: torch.dtype, device: torch.device | str = "cpu") -> list[Any]:
        """Video, text, scale and, if there are any, negatives, rounded to `dtype`; the scale stays wide."""
        wide = torch.float64 if compute == torch.float64 else torch.float32
        sides = [self.video_BD, self.text_PD] + ([] if self.negative_ND is None else [self.negative_ND])
        video, text, *negatives = (side.to(dtype).to(device, compute) for side in sides)
        made = [video, text, self.scale.to(device, wide), *negatives]
        return [leaf.clone().requires_grad_() for leaf in made]

    def loss(self, leaves: Sequence[Tensor], impl: Any, **options: Any) -> Any:
        """The losses of `leaves` with all that belongs to these inputs."""
        video_BD, text_PD, scale, *negatives = leaves
        device = video_BD.device
        if negatives:
            assert self.negative_segments is not None
            options |= {"negative_PD": negatives[0], "negative_offsets": self.negative_segments.to(device)}
            if self.negative_B is not None:
                options["negative_B"] = self.negative_B.to(device)
        options = {"reduction": "none", "normalize": self.normalize, "impl": impl} | self.options | options
        segments, target_B = self.segments.to(device), self.target_B.to(device)
        return synonym_cross_entropy(video_BD, text_PD, segments, target_B, scale=scale, **options)

    def results(
        self,
        impl: Any,
        dtype: torch.dtype,
        compute: torch.dtype | None = None,
        device: torch.device | str = "cpu",
    ) -> dict[str, Tensor]:
        """Scores, losses, logarithms and all gradients, of these inputs rounded to `dtype`, computed in `compute`."""
        leaves = self.leaves(dtype, compute or dtype, device)
        loss_B, lse_B = self.loss(leaves, impl, return_lse=True)
        names = ["video", "text", "scale", "negatives"][: len(leaves)]
        found = {"loss": loss_B, "lse": lse_B}
        total = (loss_B * self.up_B.to(device)).sum() + (lse_B * self.up_lse_B.to(device)).sum()
        found |= {
            f"{name} gradient": grad for name, grad in zip(names, torch.autograd.grad(total, leaves), strict=True)
        }
        scores_BC = synonym_similarity(
            leaves[0], leaves[1], self.segments.to(device), scale=leaves[2], normalize=self.normalize, impl=impl
        )
        found["scores"] = scores_BC
        gradients = torch.autograd.grad(scores_BC, leaves[:3], self.up_BC.to(scores_BC))
        found |= {f"{name} gradient of scores": grad for name, grad in zip(names, gradients, strict=False)}
        return {name: result.detach().cpu() for name, result in found.items()}

    def check(self, impl: Any, dtype: torch.dtype, device: torch.device | str = "cpu") -> None:
        """Hold `impl` to twice the error that eager float32 makes, beside the float64 truth and a last digit.

        The gradient of the scale is one sum, which may cancel: its last digit is that of the similarities added up.
        """
        truth = self.results("reference", dtype, torch.float64)
        eager = self.results("reference", dtype, torch.float32)
        found = self.results(impl, dtype, None, device)
        assert found.keys() == truth.keys()
        similarity_BC = (truth["scores"] / self.scale.item()).abs()
        added = {
            "scale gradient": ((self.up_B.abs() + self.up_lse_B.abs()) * similarity_BC.amax(1)).sum().item(),
            "scale gradient of scores": (self.up_BC.abs() * similarity_BC).sum().item(),
        }
        for name, mine in found.items():
            true = truth[name]
            error = (mine.double() - true).abs().max().item()
            budget = 2 * (eager[name].to(mine.dtype).double() - true).abs().max().item()
            digit = torch.finfo(mine.dtype).eps * added.get(name, true.abs().max().item())
            assert error <= budget + digit, f"{name}: error {error:.2e}, budget {budget:.2e} + {digit:.2e}"
