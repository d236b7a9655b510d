"""What the tests of train share: a loader over tensors, a tiny method, a config."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from reelmill.engine import Batch, LoaderConfig
from reelmill.shards.bank import Action, Bank
from reelmill.train.config import ApClipConfig, ModelConfig, OptimizerConfig, TrainConfig
from reelmill.train.methods import Method
from reelmill.train.methods.ap_clip import ApClip
from reelmill.train.model import VideoTextModel
from reelmill.train.step import Step

CLASSES = ("verb0 thing", "verb1 thing", "verb2 thing")


def make_bank() -> Bank:
    """Three actions with 2, 1 and 3 descriptions."""
    texts: dict[int, Sequence[str]] = {0: ["it is dark", "it is"], 1: ["bright"], 2: ["verb2", "it glares", "x"]}
    actions = [Action(number, name, name, (), (), len(texts[number])) for number, name in enumerate(CLASSES)]
    return Bank(actions, texts, "memory")


class TensorLoader:
    """The face of ClipLoader over tensors whose colour is the label; a seeded order per epoch, the tail dropped."""

    def __init__(self, samples: int = 14, classes: int = 3, batch: int = 4, frames: int = 2, size: int = 16) -> None:
        self.config = LoaderConfig(global_batch=batch, frames=frames, size=size)
        self.classes = tuple(f"verb{index} thing" for index in range(classes))
        self.stall_seconds = 0.0
        self.epoch = self.position = 0
        generator = torch.Generator().manual_seed(5)
        self.labels = torch.arange(samples) % classes
        self.clips = torch.randn(samples, 1, frames, 3, size, size, generator=generator) * 0.1
        self.clips += torch.nn.functional.one_hot(self.labels, 3).view(-1, 1, 1, 3, 1, 1)

    def __len__(self) -> int:
        return len(self.labels) // self.config.global_batch

    def __iter__(self) -> Iterator[Batch]:
        order = torch.randperm(len(self.labels), generator=torch.Generator().manual_seed(self.epoch))
        while self.position < len(self):
            start = self.position * self.config.global_batch
            rows = order[start : start + self.config.global_batch]
            self.position += 1
            yield self.batch(rows)
        self.epoch, self.position = self.epoch + 1, 0

    def batch(self, rows: torch.Tensor) -> Batch:
        """The batch of these samples."""
        return Batch(
            clips_BVTCHW=self.clips[rows],
            labels_B=self.labels[rows],
            action_ids_B=torch.full((len(rows),), -1),
            keys=[f"{int(row):016x}" for row in rows],
            captions=[""] * len(rows),
            valid_B=torch.ones(len(rows), dtype=torch.bool),
        )

    def state_dict(self) -> dict[str, Any]:
        return {"epoch": self.epoch, "position": self.position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.epoch, self.position = state["epoch"], state["position"]


@pytest.fixture
def tensor_loader() -> type[TensorLoader]:
    return TensorLoader


@pytest.fixture
def classes() -> tuple[str, ...]:
    return CLASSES


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Tensors this small only lose by sharing the work."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def mini_model(tmp_path_factory: pytest.TempPathFactory) -> ModelConfig:
    """The smallest model that the tokeniser's vocabulary allows."""
    config = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 16, "patch_size": 8, "layers": 1, "width": 16, "head_width": 8},
        "text_cfg": {"context_length": 24, "vocab_size": 49408, "layers": 1, "width": 8, "heads": 1},
    }
    path = tmp_path_factory.mktemp("models") / "mini.json"
    path.write_text(json.dumps(config))
    return ModelConfig(name=str(path))


@pytest.fixture
def tiny_method(mini_model: ModelConfig) -> Callable[[], ApClip]:
    """Makes a method with the same random weights at every call."""

    def make() -> ApClip:
        torch.manual_seed(0)
        return ApClip(VideoTextModel.create(mini_model), ApClipConfig(prefix=""), make_bank())

    return make


@pytest.fixture
def step_gradients() -> Callable[..., dict[str, torch.Tensor]]:
    """What one step leaves on the weights of a method, in fp64, its eight videos cut into batches."""

    def run(method: Method, config: TrainConfig, accumulate: int) -> dict[str, torch.Tensor]:
        method = method.double()
        method.model.learn(config.model)
        batch = TensorLoader().batch(torch.arange(8))
        batch = replace(batch, clips_BVTCHW=batch.clips_BVTCHW.double())
        Step(method, CLASSES, replace(config, accumulate=accumulate))(batch, 3)
        return {name: weight.grad for name, weight in method.named_parameters() if weight.grad is not None}

    return run


@pytest.fixture
def tiny_config(tmp_path: Path) -> TrainConfig:
    optimizer = OptimizerConfig(lr=1e-3)
    return TrainConfig(dataset="none", out=tmp_path / "run", optimizer=optimizer, global_batch=4, log_every=2)
