"""What the benchmarks of all operations share: what they are made of, and when a result is too wrong to be timed."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..kernels.launch import Launch
from ..shards.errors import ReelmillError

Version = Callable[[Any], Any]
"""A way to run an operation on the inputs of a case."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One operation beside what one writes without it."""

    cases: tuple[Any, ...]
    """Dataclasses with a `name`, and with `gpu_only` for what takes too long on a CPU."""
    make_inputs: Callable[[Any, torch.dtype, torch.device], Any]
    """From a case. Inputs have `leaves`, which get a gradient, and `upstream`, the gradient of the result."""
    fused: Version
    """What reelmill runs."""
    eager: Version
    """The other way."""
    verify: Callable[[Any, Any], None]
    """Raises `ReelmillError` for a case and its inputs if `fused` errs too much."""
    launches: Callable[[int], Iterator[tuple[str, torch.dtype, Launch]]]
    """The kernels to compile for an architecture."""
    peers: Callable[[Any], Mapping[str, Version]] = lambda case: {}
    """By name, further ways that can do what a case asks for."""
    runs: tuple[str, ...] = ("forward", "training")
    """What is timed: "forward" is the result alone, "training" also all gradients."""


def hold_to_budget(name: str, truth: Tensor, near: Tensor, found: Tensor) -> None:
    """Hold `found` to twice the error of `near`, rounded to the same dtype, and a last digit.

    Raises:
        ReelmillError: it errs more (names `name`).
    """
    error = (found.double() - truth).abs().max().item()
    digit = torch.finfo(found.dtype).eps * truth.abs().max().item()
    budget = 2 * (near.to(found.dtype).double() - truth).abs().max().item() + digit
    if not error <= budget:
        raise ReelmillError(f"{name} must err at most {budget:.1e}, got {error:.1e}")
