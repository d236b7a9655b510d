"""What the kernel tests share: inputs, and Triton's interpreter where there is no GPU."""

import sys
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
import triton.language as tl
import triton.runtime.interpreter as interpreter
from reelmill.kernels import Matching, Segments, late_interaction, match_tokens, merge_tokens, unmerge_tokens
from torch import Tensor
from triton.runtime.jit import JITFunction

CUDA = torch.cuda.is_available()


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """These tensors are so small that threads only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def triton_device() -> Iterator[torch.device]:
    """A device on which impl="triton" runs: the GPU, or the CPU under Triton's interpreter.

    Triton decides for its compiler or its interpreter when a function is decorated, those of its own language when it
    is first imported. By now anything may have imported it, so functions made for the compiler are replaced.
    """
    if CUDA:
        yield torch.device("cuda")
        return
    import reelmill.kernels.late_interaction.triton
    import reelmill.kernels.token_merge.triton  # noqa: F401

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "1")
        patch.setattr(interpreter.InterpreterBuilder, "create_dot", _widened(interpreter.InterpreterBuilder.create_dot))
        for module in _modules_with_kernels():
            for name, value in list(vars(module).items()):
                if isinstance(value, JITFunction):
                    patch.setattr(module, name, interpreter.InterpretedFunction(value.fn))
        yield torch.device("cpu")


@pytest.fixture
def poisoned_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory that is handed out unfilled holds NaN, and -1 for integers: what a kernel leaves out shows."""

    def poison(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def poisoned(*args: Any, **kwargs: Any) -> Tensor:
            tensor = make(*args, **kwargs)
            return tensor.fill_(torch.nan if tensor.is_floating_point() else -1)

        return poisoned

    for owner, name in ((torch, "empty"), (torch, "empty_like"), (torch.Tensor, "new_empty")):
        monkeypatch.setattr(owner, name, poison(getattr(owner, name)))


def _modules_with_kernels() -> list[ModuleType]:
    names = [name for name in sys.modules if name.startswith(("triton.language", "reelmill.kernels."))]
    return [sys.modules[name] for name in names if sys.modules[name] is not None]


def _widened(create_dot: Callable[..., Any]) -> Callable[..., Any]:
    """The interpreter multiplies the bits of bfloat16 as if they were integers; this widens them first."""

    def widen(handle: Any) -> Any:
        if handle.dtype != tl.bfloat16:
            return handle
        return interpreter.TensorHandle((handle.data.astype(np.uint32) << 16).view(np.float32), tl.float32)

    return lambda self, a, b, *rest: create_dot(self, widen(a), widen(b), *rest)


class Inputs:
    """Random unit vectors cut into classes, with what a test needs to compare implementations."""

    def __init__(self, B: int, V: int, lengths: Sequence[int], D: int, *, masked: bool = False, seed: int = 0) -> None:
        random = torch.Generator().manual_seed(seed)
        unit = torch.nn.functional.normalize
        self.segments = Segments.from_lengths(lengths)
        self.video_BVD = unit(torch.randn(B, V, D, generator=random), dim=-1)
        self.text_PD = unit(torch.randn(sum(lengths), D, generator=random), dim=-1)
        self.grad_BC = torch.randn(B, len(lengths), generator=random)
        self.mask_BV: Tensor | None = None
        if masked:
            self.mask_BV = torch.rand(B, V, generator=random) < 0.6
            self.mask_BV[0] = False

    def results(
        self,
        impl: Any,
        dtype: torch.dtype,
        compute: torch.dtype | None = None,
        device: torch.device | str = "cpu",
        **options: Any,
    ) -> list[Tensor]:
        """Scores and both gradients of these inputs rounded to `dtype`; computed in it, or in `compute`."""
        video_BVD, text_PD = (
            side.detach().to(dtype).to(device, compute or dtype).requires_grad_()
            for side in (self.video_BVD, self.text_PD)
        )
        mask_BV = None if self.mask_BV is None else self.mask_BV.to(device)
        scores_BC = late_interaction(
            video_BVD, text_PD, self.segments.to(device), video_mask_BV=mask_BV, impl=impl, **options
        )
        (scores_BC * self.grad_BC.to(device)).sum().backward()
        assert video_BVD.grad is not None
        assert text_PD.grad is not None
        return [scores_BC.detach().cpu(), video_BVD.grad.cpu(), text_PD.grad.cpu()]

    def check(self, impl: Any, dtype: torch.dtype, device: torch.device | str = "cpu", **options: Any) -> None:
        """Hold `impl` to twice the error that eager float32 makes, beside the float64 truth and a last digit."""
        truth = self.results("reference", dtype, torch.float64, **options)
        eager = self.results("reference", dtype, torch.float32, **options)
        found = self.results(impl, dtype, None, device, **options)
        names = ("scores", "video gradient", "text gradient")
        for name, true, theirs, mine in zip(names, truth, eager, found, strict=True):
            error = (mine.double() - true).abs().max().item()
            budget = 2 * (theirs.to(mine.dtype).double() - true).abs().max().item()
            digit = torch.finfo(mine.dtype).eps * true.abs().max().item()
            assert error <= budget + digit, f"{name}: error {error:.2e}, budget {budget:.2e} + {digit:.2e}"


@pytest.fixture
def make_inputs() -> type[Inputs]:
    return Inputs


class Tokens:
    """Random tokens with a metric, a residual, sizes and upstream gradients, and how far from the truth they may be."""

    def __init__(
        self, B: int, N: int, D: int, K: int, r: int, *, residual: bool = False, sized: bool = False, protect: int = 1
    ) -> None:
        random = torch.Generator().manual_seed(0)
        self.r, self.protect = r, protect
        self.metric_BNK = torch.randn(B, N, K, generator=random)
        self.x_BND = torch.randn(B, N, D, generator=random)
        self.residual_BND = torch.randn(B, N, D, generator=random) if residual else None
        self.size_BN = torch.randint(1, 9, (B, N), generator=random).float() if sized else None
        self.up_BND = torch.randn(B, N, D, generator=random)
        """The upstream gradient of the tokens; of merged ones the first."""

    def match(self, impl: Any, dtype: torch.dtype, compute: torch.dtype, device: torch.device | str) -> Matching:
        """The matching for the metric rounded to `dtype`, found in `compute`."""
        metric_BNK = self.metric_BNK.to(dtype).to(device, compute)
        found = match_tokens(metric_BNK, self.r, protect=self.protect, impl=impl)
        return Matching(*(part.cpu() for part in found))

    def merge(
        self, matching: Matching, impl: Any, dtype: torch.dtype, compute: torch.dtype, device: torch.device | str
    ) -> dict[str, Tensor]:
        """What these tokens rounded to `dtype` merge to, computed in `compute`, their gradients, and the way back."""
        wide = torch.float64 if compute == torch.float64 else torch.float32
        sides = [self.x_BND] if self.residual_BND is None else [self.x_BND, self.residual_BND]
        leaves = [side.to(dtype).to(device, compute).requires_grad_() for side in sides]
        size_BN = None if self.size_BN is None else self.size_BN.to(device, wide)
        matching = Matching(*(part.to(device) for part in matching))
        merged_BMD, size_BM = merge_tokens(
            leaves[0], matching, size_BN=size_BN, residual_BND=leaves[1] if len(leaves) > 1 else None, impl=impl
        )
        up_BND = self.up_BND.to(dtype).to(device, compute)
        gradients = torch.autograd.grad(merged_BMD, leaves, up_BND[:, : matching.merged])
        rows_BMD = up_BND[:, : matching.merged].detach().requires_grad_()
        x_BND = unmerge_tokens(rows_BMD, matching, impl=impl)
        (back_BMD,) = torch.autograd.grad(x_BND, rows_BMD, up_BND)
        results = {"tokens": merged_BMD, "sizes": size_BM, "unmerged": x_BND, "way back": back_BMD}
        results |= dict(zip(("gradient", "residual gradient"), gradients, strict=False))
        return {name: result.detach().cpu() for name, result in results.items()}

    def check_match(self, impl: Any, dtype: torch.dtype, device: torch.device | str = "cpu") -> Matching:
        """Hold the cosines that `impl` finds to twice what float32 misses of the best, and a last digit.

        Rounding may make another choice among near equals, so it is what the choice is worth that is compared.
        """
        ways = (("reference", torch.float64, "cpu"), ("reference", torch.float32, "cpu"), (impl, dtype, device))
        matchings = [self.match(name, dtype, compute, where) for name, compute, where in ways]
        truth, near, found = (self._gain(matching, dtype) for matching in matchings)
        worth = 2 * (near - truth).abs().max().item() + 1e-6
        assert (found - truth).abs().max().item() <= worth, "matching: it misses better pairs"
        return matchings[2]

    def check_merge(
        self, matching: Matching, impl: Any, dtype: torch.dtype, device: torch.device | str = "cpu"
    ) -> None:
        """Hold merging by a matching to twice the error that eager float32 makes, and a last digit."""
        truth = self.merge(matching, "reference", dtype, torch.float64, "cpu")
        near = self.merge(matching, "reference", dtype, torch.float32, "cpu")
        found = self.merge(matching, impl, dtype, dtype, device)
        assert found.keys() == truth.keys()
        for name, mine in found.items():
            error = (mine.double() - truth[name]).abs().max().item()
            budget = 2 * (near[name].to(mine.dtype).double() - truth[name]).abs().max().item()
            digit = torch.finfo(mine.dtype).eps * truth[name].abs().max().item()
            assert error <= budget + digit, f"{name}: error {error:.2e}, budget {budget:.2e} + {digit:.2e}"

    def _gain(self, matching: Matching, dtype: torch.dtype) -> Tensor:
        """(B,) the cosines of the pairs that merge, added up."""
        unit_BNK = torch.nn.functional.normalize(self.metric_BNK.to(dtype).double(), dim=2)
        gains = []
        for unit_NK, target_N in zip(unit_BNK, matching.target_BN.tolist(), strict=True):
            odd = {target: n for n, target in enumerate(target_N) if n % 2}
            pairs = [(n, odd[target]) for n, target in enumerate(target_N) if n % 2 == 0 and target in odd]
            gains.append(sum((unit_NK[n] @ unit_NK[o]).item() for n, o in pairs))
        return torch.tensor(gains)


@pytest.fixture
def make_tokens() -> type[Tokens]:
    return Tokens
