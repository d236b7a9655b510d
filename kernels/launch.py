"""A kernel launch as data: it can run, or be compiled ahead of time for a GPU that is not there."""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

ARCHITECTURES = (80, 90, 100)
"""The compute capabilities (times ten) that kernels have configurations for."""


def architecture(device: torch.device) -> int:
    """The newest of `ARCHITECTURES` that the device runs; the oldest where there is no CUDA (the interpreter)."""
    if device.type != "cuda":
        return ARCHITECTURES[0]
    major, minor = torch.cuda.get_device_capability(device)
    known = [arch for arch in ARCHITECTURES if arch <= 10 * major + minor]
    if not known:
        raise ValueError(f"the Triton kernels need compute capability 8.0 or newer, {device} has {major}.{minor}")
    return known[-1]


REGISTERS = 255
"""Allowed to a thread: all there are. Left to itself, ptxas spills some to fit more programs at a time."""


@dataclass(frozen=True, kw_only=True)
class Launch:
    """One kernel, its arguments and its grid."""

    kernel: Any
    grid: tuple[int, ...]
    arguments: Mapping[str, Any]
    constants: Mapping[str, Any]
    warps: int
    stages: int
    products: bool = True
    """Whether it multiplies matrices, which 16 bits must do on the tensor cores."""

    @property
    def options(self) -> dict[str, int]:
        """What the compiler is told."""
        return {"num_warps": self.warps, "num_stages": self.stages, "maxnreg": REGISTERS}

    def run(self) -> None:
        """Launch on the device of the tensors among the arguments."""
        device = next(value.device for value in self.arguments.values() if isinstance(value, Tensor))
        with torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext():
            self.kernel[self.grid](**self.arguments, **self.constants, **self.options)
