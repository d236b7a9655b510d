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
from reelmill.kernels import Segments, late_interaction
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
    import reelmill.kernels.late_interaction.triton  # noqa: F401

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "1")
        patch.setattr(interpreter.InterpreterBuilder, "create_dot", _widened(interpreter.InterpreterBuilder.create_dot))
        for module in _modules_with_kernels():
            for name, value in list(vars(module).items()):
                if isinstance(value, JITFunction):
                    patch.setattr(module, name, interpreter.InterpretedFunction(value.fn))
        yield torch.device("cpu")


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
