"""Inputs of the tests of entity alignment, and how far from the truth the results of an implementation may be."""

from typing import Any

import torch
from reelmill.kernels import align_entities
from reelmill.kernels.entity_alignment.noise import gumbel_noise, noise_keys
from torch import Tensor


class RegionInputs:
    """Random regions and entities of many lengths, noise, and upstream gradients."""

    def __init__(
        self, R: int, K: int, D: int, *, scale: float = 20.0, noisy: bool = False, seed: int | None = None
    ) -> None:
        random = torch.Generator().manual_seed(R * K + D)
        self.region_RD = torch.randn(R, D, generator=random) * torch.rand(R, 1, generator=random).add(0.1)
        self.entity_KD = torch.randn(K, D, generator=random) * torch.rand(K, 1, generator=random).add(0.1)
        self.noise_RK = torch.randn(R, K, generator=random) if noisy else None
        self.seed = seed
        self.scale = torch.tensor(scale)
        self.up_RD = torch.randn(R, D, generator=random)

    def results(
        self, impl: Any, dtype: torch.dtype, compute: torch.dtype | None = None, device: torch.device | str = "cpu"
    ) -> dict[str, Tensor]:
        """The op and its gradients for these inputs rounded to `dtype`; computed in it, or in `compute`."""
        compute = compute or dtype
        wide = torch.float64 if compute == torch.float64 else torch.float32
        region_RD, entity_KD, up_RD = (
            side.detach().to(dtype).to(device, compute) for side in (self.region_RD, self.entity_KD, self.up_RD)
        )
        scale = self.scale.to(device, wide)
        leaves = [side.requires_grad_() for side in (region_RD, entity_KD, scale)]
        noise_RK = None if self.noise_RK is None else self.noise_RK.to(device, wide)
        aligned_RD, index_R = align_entities(
            region_RD, entity_KD, scale=scale, noise_RK=noise_RK, seed=self.seed, impl=impl
        )
        gradients = torch.autograd.grad(aligned_RD, leaves, up_RD)
        names = ("aligned", "index", "region gradient", "entity gradient", "scale gradient")
        results = (aligned_RD.detach(), index_R, *gradients)
        return {name: result.cpu() for name, result in zip(names, results, strict=True)}

    def check(self, impl: Any, dtype: torch.dtype, device: torch.device | str = "cpu") -> None:
        """Hold `impl` to twice the error that eager float32 makes, beside the float64 truth and a last digit.

        Errors are root sums of squares: where a softmax is steep, single elements err by luck.
        """
        truth = self.results("reference", dtype, torch.float64)
        eager = self.results("reference", dtype, torch.float32)
        found = self.results(impl, dtype, None, device)
        assert found["index"].equal(truth["index"]), "index: another choice"
        for name in ("aligned", "region gradient", "entity gradient", "scale gradient"):
            mine, true = found[name], truth[name]
            digit = torch.finfo(mine.dtype).eps * true.norm().item()
            if name == "scale gradient":
                digit = self._digit_of_scale(impl, dtype)
            error = (mine.double() - true).norm().item()
            budget = 2 * (eager[name].to(mine.dtype).double() - true).norm().item()
            assert error <= budget + digit, f"{name}: error {error:.2e}, budget {budget:.2e} + {digit:.2e}"

    def _digit_of_scale(self, impl: Any, dtype: torch.dtype) -> float:
        """The gradient of the scale is one number, a sum of many that cancel: its last digit is one of theirs.

        Triton's products have 16 bits for 16 bits.
        """
        region_RD, entity_KD, up_RD = (side.to(dtype).double() for side in (self.region_RD, self.entity_KD, self.up_RD))
        unit = torch.nn.functional.normalize
        cosine_RK = unit(region_RD, dim=1) @ unit(entity_KD, dim=1).T
        logits_RK = self.scale.double() * cosine_RK
        if self.noise_RK is not None:
            logits_RK += self.noise_RK
        if self.seed is not None:
            logits_RK += gumbel_noise(*noise_keys(torch.tensor(self.seed), *logits_RK.shape), torch.float64)
        share_RK, pull_RK = logits_RK.softmax(1), up_RD @ entity_KD.T
        terms_RK = share_RK * (pull_RK - (share_RK * pull_RK).sum(1, keepdim=True)) * cosine_RK
        narrow = impl == "triton" and dtype != torch.float32
        return (2**-16 if narrow else 2**-23) * terms_RK.abs().sum().item()
