"""Makes the gradients of one step of a tiny method, as one rank of several: for tests/train/test_step.py.

As a script it works through the cases of the JSON in argv[1] with as many processes as the largest needs, forked
from one that has imported everything, which takes seconds.
"""

import json
import multiprocessing
import os
import sys
from pathlib import Path
from typing import Any

import torch
from reelmill.engine import Batch
from reelmill.torchvision_ops import import_torchvision
from reelmill.train import distributed
from reelmill.train.config import ApClipConfig, ModelConfig, TrainConfig
from reelmill.train.methods.ap_clip import ApClip
from reelmill.train.methods.method import cross_entropy
from reelmill.train.model import VideoTextModel
from reelmill.train.step import Step
from safetensors.torch import save_file

CLASSES = ("push cup", "lift a very heavy box", "open", "x", "close the door")
VIDEOS = 8


class Coupled(ApClip):
    """Compares videos: each class also asks which video of the whole step is its own."""

    couples_videos = True

    def loss(self, outputs_B, texts, states, targets):
        """Along the classes, and down the videos."""
        known_B = targets.labels_B >= 0
        scores_KK = outputs_B[known_B][:, targets.labels_B[known_B]]
        down = -scores_KK.log_softmax(0).diagonal().sum() / targets.counted
        return {"down": down, "along": targets.mean(lambda labels_B: cross_entropy(outputs_B, labels_B))}


def share_of(rank: int, ranks: int) -> Batch:
    """Every `ranks`-th of the videos; one has no label and one no pixels of its own."""
    generator = torch.Generator().manual_seed(3)
    clips = torch.randn(VIDEOS, 1, 2, 3, 16, 16, generator=generator).double()
    labels = torch.tensor([0, 1, 2, 3, 4, 0, -1, 2])
    rows = torch.arange(rank, VIDEOS, ranks)
    return Batch(
        clips_BVTCHW=clips[rows],
        labels_B=labels[rows],
        action_ids_B=torch.full((len(rows),), -1),
        keys=[f"{int(row):016x}" for row in rows],
        captions=[""] * len(rows),
        valid_B=rows != 3,
    )


def gradients(
    model: str, *, accumulate: int = 1, kind: str = "apart", text_learns: Any = "all", chunk: int = 100
) -> dict[str, torch.Tensor]:
    """Of one step in fp64, by the name of the weight; with the losses."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = TrainConfig(
        dataset="none",
        out=Path("none"),
        model=ModelConfig(name=model, text_learns=text_learns, text_chunk=chunk),
        global_batch=VIDEOS,
        accumulate=accumulate,
    )
    encoders = VideoTextModel.create(config.model).double()
    encoders.learn(config.model)
    method = (Coupled if kind == "coupled" else ApClip)(encoders, ApClipConfig(prompts_per_class=0), None)
    result = Step(method, CLASSES, config)(share_of(distributed.rank(), distributed.world_size()), 0)
    found = {name: weight.grad for name, weight in method.named_parameters() if weight.grad is not None}
    losses = {f"loss.{name}": distributed.total(loss) for name, loss in result.losses.items()}
    return found | losses | {"right": distributed.total(result.right.double()), "counted": result.counted.double()}


def main(rank: int, cases: list[dict[str, Any]]) -> None:
    """Each case: the ranks, their port, the folder for the gradients and the arguments of `gradients`."""
    for number, case in enumerate(cases):
        ranks, port, folder = case.pop("ranks"), case.pop("port"), Path(case.pop("folder"))
        if rank >= ranks:
            continue
        os.environ |= {
            "RANK": str(rank),
            "WORLD_SIZE": str(ranks),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
        }
        distributed.start(torch.device("cpu"))
        found = gradients(**case)
        save_file({name: value.contiguous() for name, value in found.items()}, folder / f"{number}-{rank}.safetensors")
        distributed.stop()


if __name__ == "__main__":
    import_torchvision()
    import open_clip  # noqa: F401  before the fork

    asked = json.loads(sys.argv[1])
    fork = multiprocessing.get_context("fork")
    ranks = [fork.Process(target=main, args=(rank, asked)) for rank in range(max(case["ranks"] for case in asked))]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join()
    sys.exit(any(process.exitcode for process in ranks))
