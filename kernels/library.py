"""What every op shares: which implementation runs, and how it is registered with torch."""

import functools
import logging
from collections.abc import Callable
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.utils import flop_counter

Impl = Literal["auto", "reference", "cpu", "triton"]
logger = logging.getLogger(__name__)


def choose(impl: str, tensor: Tensor) -> Literal["reference", "cpu", "triton"]:
    """The implementation that runs for `tensor`: "auto" takes Triton on CUDA and the blocked path on the CPU.

    Raises:
        ValueError: `impl` is unknown, or cannot run on the device or dtype of `tensor`.
    """
    if impl not in get_args(Impl):
        raise ValueError(f"impl must be one of {', '.join(get_args(Impl))}, got {impl!r}")
    if impl == "auto":
        if tensor.is_cuda and tensor.dtype != torch.float64:
            return "triton"
        if tensor.device.type in ("cpu", "meta"):
            return "cpu"
        _log_once(
            f"{tensor.dtype} on {tensor.device.type} takes the plain PyTorch reference: no kernel of ours runs it"
        )
        return "reference"
    if impl == "cpu" and tensor.device.type != "cpu":
        raise ValueError(f"impl='cpu' needs tensors on the CPU, got {tensor.device}")
    if impl == "triton":
        if tensor.dtype == torch.float64:
            raise ValueError("impl='triton' takes float16, bfloat16 or float32, got torch.float64")
        if not tensor.is_cuda and not interpreted():
            raise ValueError(
                f"impl='triton' needs tensors on CUDA, got {tensor.device} (TRITON_INTERPRET=1 interprets it)"
            )
    return impl  # type: ignore[return-value]  # checked against the choices above


def interpreted() -> bool:
    """Whether Triton runs its kernels in its interpreter, on the CPU."""
    from triton import knobs

    return bool(knobs.runtime.interpret)


@functools.cache
def _log_once(message: str) -> None:
    logger.warning(message)


# What is registered lives as long as this object.
_LIBRARY = torch.library.Library("reelmill", "FRAGMENT")  # type: ignore[no-untyped-call]


def register_autocast(name: str, leading: int | None = None) -> None:
    """Under autocast the op takes its float32, float16 and bfloat16 tensors in the autocast dtype of that moment.

    With `leading`, only those among its first so many arguments.

    torch's own helper fixes one dtype at registration.
    """
    op = getattr(torch.ops.reelmill, name).default
    for device_type, key in (("cuda", torch._C.DispatchKey.AutocastCUDA), ("cpu", torch._C.DispatchKey.AutocastCPU)):

        def cast_and_run(
            _: Any, *args: Any, device_type: str = device_type, key: torch._C.DispatchKey = key
        ) -> tuple[Tensor, ...]:
            dtype = torch.get_autocast_dtype(device_type)
            cast = [arg.to(dtype) if _castable(arg, device_type) else arg for arg in args[:leading]]
            cast += args[len(cast) :]
            with torch._C._ExcludeDispatchKeyGuard(torch._C.DispatchKeySet(key)):
                outputs: tuple[Tensor, ...] = op(*cast)
            return outputs

        _LIBRARY.impl(name, cast_and_run, key.name, with_keyset=True)  # type: ignore[no-untyped-call]


def _castable(value: Any, device_type: str) -> bool:
    return (
        isinstance(value, Tensor)
        and value.device.type == device_type
        and value.is_floating_point()
        and value.dtype != torch.float64
    )


def register_flops(name: str, formula: Callable[..., int]) -> None:
    """Let `torch.utils.flop_counter` count the op by `formula`, which takes its arguments, tensors as their shapes."""
    flop_counter.register_flop_formula(getattr(torch.ops.reelmill, name))(formula)
