"""What the benchmarks of all operations share: what a version is, and when its result is too wrong to time."""

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from ..shards.errors import ReelmillError


class Inputs(Protocol):
    """What an operation is timed on."""

    @property
    def leaves(self) -> tuple[Tensor, ...]:
        """What gets a gradient."""

    @property
    def upstream(self) -> Tensor:
        """The gradient of the result: random, so that nothing is saved by its being all ones."""


AnyInputs = TypeVar("AnyInputs", contravariant=True)


class Version(Protocol[AnyInputs]):
    """One way to run an operation."""

    def __call__(self, inputs: AnyInputs, /) -> Any: ...
