"""What ranks share: who they are, sums, rows and gradients. Without a process group all of it is the identity.

Every function that talks to other ranks must be called by all of them, in the same order.
"""

import os
from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ..shards.errors import UsageError

BUCKET_BYTES = 25 << 20


def start(device: torch.device) -> torch.device:
    """Join the ranks that `torchrun` (or Ray Train) started this process among, if any did.

    Returns:
        The device of this rank.

    Raises:
        UsageError: a rank without a GPU of its own.
    """
    if "RANK" not in os.environ or dist.is_initialized():
        return device
    if device.type == "cuda":
        local = int(os.environ.get("LOCAL_RANK", "0"))
        if local >= torch.cuda.device_count():
            raise UsageError(f"every rank of a machine needs a GPU: there are {torch.cuda.device_count()}, not {local}")
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    return device


def stop() -> None:
    """Leave the other ranks."""
    if dist.is_initialized():
        dist.destroy_process_group()


def rank() -> int:
    """Of this process, in [0, `world_size()`)."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def barrier() -> None:
    """Wait for every rank."""
    if dist.is_initialized():
        dist.barrier()


def total(value: Tensor) -> Tensor:
    """The sum over ranks, without gradient."""
    value = value.detach().clone()
    if dist.is_initialized():
        dist.all_reduce(value)
    return value


def most(value: Tensor) -> Tensor:
    """The largest of all ranks."""
    value = value.detach().clone()
    if dist.is_initialized():
        dist.all_reduce(value, op=dist.ReduceOp.MAX)
    return value


def gather(rows: Tensor) -> Tensor:
    """The rows of all ranks, rank after rank; each rank has as many. Without gradient."""
    if world_size() == 1:
        return rows.detach()
    parts = [torch.empty_like(rows, memory_format=torch.contiguous_format) for _ in range(world_size())]
    dist.all_gather(parts, rows.detach().contiguous())
    return torch.cat(parts)


@torch.no_grad()
def add_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Add the gradients of all ranks, in buckets. A parameter that no rank used keeps none."""
    weights = [weight for weight in parameters if weight.requires_grad]
    if world_size() == 1 or not weights:
        return
    used = total(torch.tensor([float(weight.grad is not None) for weight in weights], device=weights[0].device))
    bucket: list[Tensor] = []
    for weight, count in zip(weights, used.tolist(), strict=True):
        if not count:
            continue
        if weight.grad is None:
            weight.grad = torch.zeros_like(weight)
        fits = not bucket or (
            bucket[0].dtype == weight.grad.dtype and sum(part.nbytes for part in bucket) < BUCKET_BYTES
        )
        if not fits:
            _add(bucket)
            bucket = []
        bucket.append(weight.grad)
    _add(bucket)


def _add(bucket: list[Tensor]) -> None:
    if not bucket:
        return
    flat = torch.cat([part.flatten() for part in bucket])
    dist.all_reduce(flat)
    for part, summed in zip(bucket, torch.split(flat, [part.numel() for part in bucket]), strict=True):
        part.copy_(summed.view_as(part))
