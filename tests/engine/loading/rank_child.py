"""The ranks of test_ranks.py: they evaluate and train with a collective in every step, and write what they had.

Each is a process of its own, forked once torch is there. Arguments: ranks, a folder for what came, the dataset.
"""

import json
import os
import sys
import traceback
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from reelmill.engine import Batch, ClipLoader, LoaderConfig

EVAL = LoaderConfig(global_batch=4, frames=1, size=8, training=False, threads=1, max_bad_fraction=1.0)
TRAIN = LoaderConfig(global_batch=4, frames=1, size=8, seed=2, threads=1, max_bad_fraction=1.0)
Slots = list[tuple[str, bool]]


def slots(batch: Batch) -> Slots:
    return list(zip(batch.keys, batch.valid_B.tolist(), strict=True))


def evaluate(dataset: str, rank: int, ranks: int) -> tuple[list[Slots], int]:
    """The rank's slots of each step, and the samples that all ranks counted together, step by step."""
    steps, counted = [], 0
    for batch in ClipLoader(dataset, EVAL, rank=rank, world_size=ranks):
        steps.append(slots(batch))
        valid = batch.valid_B.sum()
        dist.all_reduce(valid)
        counted += int(valid)
    return steps, counted


def train(loader: ClipLoader, weights: torch.Tensor, most: int | None) -> list[Slots]:
    """Some steps, or the rest of the epoch; what is not valid weighs nothing, and takes part all the same."""
    steps = []
    for batch in loader:
        outputs_B = batch.clips_BVTCHW.flatten(1) @ weights
        (gradient,) = torch.autograd.grad((outputs_B * batch.valid_B).sum(), weights)
        dist.all_reduce(gradient)
        weights.data -= 1e-3 * gradient
        steps.append(slots(batch))
        if len(steps) == most:
            break
    return steps


def rank_of(rank: int, ranks: int, meeting: Path, dataset: str) -> dict[str, Any]:
    """Evaluate, and begin an epoch of training; what came of it."""
    dist.init_process_group(
        "gloo", init_method=f"file://{meeting}", rank=rank, world_size=ranks, timeout=timedelta(seconds=60)
    )
    found: dict[str, Any] = {}
    found["evaluated"], found["counted"] = evaluate(dataset, rank, ranks)
    weights = torch.zeros(3 * 8 * 8, requires_grad=True)
    loader = ClipLoader(dataset, TRAIN, rank=rank, world_size=ranks)
    found["begun"], found["state"] = train(loader, weights, 1), loader.state_dict()
    dist.destroy_process_group()
    if rank < ranks // 2:  # half of them go on
        dist.init_process_group("gloo", init_method=f"file://{meeting}-half", rank=rank, world_size=ranks // 2)
        again = ClipLoader(dataset, TRAIN, rank=rank, world_size=ranks // 2)
        again.load_state_dict(found["state"])
        found["rest"] = train(again, weights, None)
        dist.destroy_process_group()
    return found | {"weights": weights.tolist()}


def main(ranks: int, folder: Path, dataset: str) -> int:
    """Exit code of the worst rank."""
    torch.set_num_threads(1)
    children = []
    for rank in range(ranks):
        if child := os.fork():
            children.append(child)
            continue
        try:
            found = rank_of(rank, ranks, folder / "meeting", dataset)
            (folder / f"{rank}.json").write_text(json.dumps(found))
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return max(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]))
