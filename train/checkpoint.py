"""Checkpoints without pickle: a folder that is whole or absent, and that open_clip loads as it is.

RUN/checkpoints/step-00000200/
    open_clip_config.json        the architecture: open_clip.create_model("local-dir:RUN/checkpoints/step-00000200")
    open_clip_model.safetensors  the weights
    training.safetensors         the optimiser's tensors as <parameter index>.<name>, torch's generators as rng.<device>
    state.json                   steps done, state of the loader
"""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import shorten
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..shards.errors import DamageError, UsageError
from ..shards.files import make_folder, storage_error, sync_folder
from .config import ModelConfig, Precision
from .model import VideoTextModel

FOLDER = "checkpoints"
ARCHITECTURE, WEIGHTS, TRAINING, STATE = (
    "open_clip_config.json",
    "open_clip_model.safetensors",
    "training.safetensors",
    "state.json",
)


class Position(NamedTuple):
    """Where a run stands."""

    step: int
    """Optimiser steps done."""
    loader: dict[str, Any]
    """The loader's state_dict."""


def latest(run: Path) -> Path | None:
    """The newest whole checkpoint of a run, or None."""
    found = _checkpoints(run / FOLDER)
    return found[-1] if found else None


def save(run: Path, model: VideoTextModel, optimizer: torch.optim.Optimizer, position: Position, *, keep: int) -> Path:
    """Write a checkpoint and remove all but the newest `keep`.

    Everything goes to a hidden folder first, is flushed to the disk and takes its name by one rename.

    Raises:
        StorageError: the disk refused.
    """
    folder = run / FOLDER
    final = folder / f"step-{position.step:08d}"
    if final.exists():  # a run that was resumed and stopped at once: the same step of the same run
        return final
    part = folder / f".{final.name}.part"
    make_folder(folder)
    try:
        for leftover in folder.glob(".step-*"):  # of a process that was killed here
            shutil.rmtree(leftover)
        part.mkdir()
        architecture = {"model_cfg": model.architecture, "preprocess_cfg": model.preprocessing}
        (part / ARCHITECTURE).write_text(json.dumps(architecture, indent=1))
        save_file({name: value.contiguous() for name, value in model.clip.state_dict().items()}, part / WEIGHTS)
        save_file(_optimizer_tensors(optimizer) | _generators(model.log_scale.device), part / TRAINING)
        (part / STATE).write_text(json.dumps(position._asdict(), indent=1))
        for path in part.iterdir():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        sync_folder(part)
        part.rename(final)
        sync_folder(folder)
        for old in _checkpoints(folder)[:-keep]:
            shutil.rmtree(old.rename(old.with_name(f".{old.name}.old")))  # never half of one under a final name
    except (OSError, SafetensorError) as error:
        raise storage_error(final, error if isinstance(error, OSError) else OSError(str(error))) from error
    return final


def restore(path: Path, model: VideoTextModel, optimizer: torch.optim.Optimizer) -> Position:
    """Put weights, optimiser and torch's generators back as they were: the next step is the same, bit for bit.

    Raises:
        DamageError: a file is missing or does not parse.
        UsageError: the weights are those of another model.
    """
    with _reading(path):
        weights = load_file(path / WEIGHTS)
        tensors = load_file(path / TRAINING)
        position = Position(**json.loads((path / STATE).read_bytes()))
    try:
        model.clip.load_state_dict(weights)
    except RuntimeError as error:
        what = shorten(str(error), 300)
        raise UsageError(f"checkpoint {path} must hold the weights of the run's model: {what}") from error
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        index, _, field = name.partition(".")
        if index != "rng":
            state.setdefault(int(index), {})[field] = tensor
    optimizer.load_state_dict(optimizer.state_dict() | {"state": state})
    torch.set_rng_state(tensors["rng.cpu"])
    if "rng.cuda" in tensors and model.log_scale.is_cuda:
        torch.cuda.set_rng_state(tensors["rng.cuda"], model.log_scale.device)
    return position


def load_model(path: Path, *, precision: Precision) -> tuple[VideoTextModel, int]:
    """The model of a checkpoint on the CPU, and the steps that it was trained for.

    Raises:
        DamageError: a file is missing or does not parse.
        UsageError: the weights do not fit the architecture.
    """
    with _reading(path):
        step = Position(**json.loads((path / STATE).read_bytes())).step
        return VideoTextModel.create(ModelConfig(name=f"local-dir:{path}"), precision=precision), step


def _checkpoints(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*"), key=lambda path: int(path.name.removeprefix("step-")))


def _optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    state: dict[int, dict[str, Tensor]] = optimizer.state_dict()["state"]
    return {f"{index}.{field}": tensor.contiguous() for index in state for field, tensor in state[index].items()}


def _generators(device: torch.device) -> dict[str, Tensor]:
    generators = {"rng.cpu": torch.get_rng_state()}
    if device.type == "cuda":
        generators["rng.cuda"] = torch.cuda.get_rng_state(device)
    return generators


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except UsageError:
        raise
    except (OSError, ValueError, TypeError, SafetensorError) as error:
        raise DamageError(f"checkpoint {path} must be whole, but does not read: {error}") from error
