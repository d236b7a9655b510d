"""Checkpoints without pickle: a folder that is whole or absent, and that open_clip loads as it is.

RUN/checkpoints/step-00000200/
    open_clip_config.json        the architecture: open_clip.create_model("local-dir:RUN/checkpoints/step-00000200")
    open_clip_model.safetensors  the weights of the two encoders: their moving average where the run keeps one
    method.safetensors           the weights that the method adds
    training.safetensors         the optimiser's tensors as <parameter index>.<name>; beside an average, the weights of
                                 the last step as last.<name>. No random numbers: each step has its own seed
    state.json                   steps done, state of the loader
"""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from textwrap import shorten
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..shards.errors import DamageError, UsageError
from ..shards.files import make_folder, storage_error, sync_folder
from . import distributed
from .config import ModelConfig, Precision
from .methods import Method
from .model import VideoTextModel
from .optimizer import Average

FOLDER = "checkpoints"
ARCHITECTURE, WEIGHTS, OWN_WEIGHTS, TRAINING, STATE = (
    "open_clip_config.json",
    "open_clip_model.safetensors",
    "method.safetensors",
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


def save(
    run: Path,
    method: Method,
    optimizer: torch.optim.Optimizer,
    average: Average | None,
    position: Position,
    *,
    keep: int,
) -> Path:
    """Write a checkpoint and remove all but the newest `keep`.

    Everything goes to a hidden folder first, is flushed to the disk and takes its name by one rename. The first rank
    writes; all wait for it.

    Raises:
        StorageError: the disk refused.
    """
    final = run / FOLDER / f"step-{position.step:08d}"
    if distributed.rank() == 0 and not final.exists():  # a run that was resumed and stopped at once is there already
        training = _optimizer_tensors(optimizer)
        if average is not None:
            training |= {f"last.{name}": weight.detach().clone() for name, weight in method.named_parameters()}
            average.swap()
        try:
            _write(final, method, training, position, keep)
        finally:
            if average is not None:
                average.swap()
    distributed.barrier()
    return final


def _write(final: Path, method: Method, training: Mapping[str, Tensor], position: Position, keep: int) -> None:
    folder, model = final.parent, method.model
    part = folder / f".{final.name}.part"
    make_folder(folder)
    try:
        for leftover in folder.glob(".step-*"):  # of a process that was killed here
            shutil.rmtree(leftover)
        part.mkdir()
        architecture = {"model_cfg": model.architecture, "preprocess_cfg": model.preprocessing}
        (part / ARCHITECTURE).write_text(json.dumps(architecture, indent=1))
        _save(model.clip.state_dict(), part / WEIGHTS)
        _save(method.own_state(), part / OWN_WEIGHTS)
        _save(training, part / TRAINING)
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


def _save(tensors: Mapping[str, Tensor], path: Path) -> None:
    save_file({name: value.contiguous() for name, value in tensors.items()}, path)


def restore(path: Path, method: Method, optimizer: torch.optim.Optimizer, average: Average | None = None) -> Position:
    """Put weights and optimiser back as they were: the next step is the same, bit for bit.

    Raises:
        DamageError: a file is missing or does not parse.
        UsageError: the weights are those of another model.
    """
    model = method.model
    with _reading(path):
        weights = load_file(path / WEIGHTS)
        tensors = load_file(path / TRAINING)
        position = Position(**json.loads((path / STATE).read_bytes()))
    try:
        model.clip.load_state_dict(weights)
    except RuntimeError as error:
        what = shorten(str(error), 300)
        raise UsageError(f"checkpoint {path} must hold the weights of the run's model: {what}") from error
    load_method(path, method)
    last = {name.removeprefix("last."): tensors.pop(name) for name in list(tensors) if name.startswith("last.")}
    if average is not None:
        with torch.no_grad():
            average.load(dict(method.named_parameters()))
            for name, weight in method.named_parameters():
                weight.copy_(last[name])
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        index, _, field = name.partition(".")
        state.setdefault(int(index), {})[field] = tensor
    optimizer.load_state_dict(optimizer.state_dict() | {"state": state})
    return position


def load_model(path: Path, config: ModelConfig, *, precision: Precision) -> tuple[VideoTextModel, int]:
    """The model of a checkpoint on the CPU, and the steps that it was trained for.

    Args:
        path: of the checkpoint.
        config: of the run, which says what else than open_clip's model there is; its weights come from the checkpoint.
        precision: of its arithmetic.

    Raises:
        DamageError: a file is missing or does not parse.
        UsageError: the weights do not fit the architecture.
    """
    with _reading(path):
        step = Position(**json.loads((path / STATE).read_bytes())).step
        config = replace(config, name=f"local-dir:{path}", pretrained=None)
        return VideoTextModel.create(config, precision=precision), step


def load_method(path: Path, method: Method) -> None:
    """Put the weights that the method adds to the model back as they were.

    Raises:
        DamageError: the file is missing or does not parse.
        UsageError: the weights are those of another method.
    """
    with _reading(path):
        weights = load_file(path / OWN_WEIGHTS)
    own = method.own_state()
    fits = weights.keys() == own.keys() and all(weights[name].shape == own[name].shape for name in own)
    if not fits:
        strange = sorted(weights.keys() ^ own.keys()) or sorted(n for n in own if own[n].shape != weights[n].shape)
        raise UsageError(f"checkpoint {path} must hold the weights of the run's method, but differs in {strange[:5]}")
    method.load_state_dict(weights, strict=False)


def _checkpoints(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*"), key=lambda path: int(path.name.removeprefix("step-")))


def _optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    state: dict[int, dict[str, Tensor]] = optimizer.state_dict()["state"]
    return {f"{index}.{field}": tensor.contiguous() for index in state for field, tensor in state[index].items()}


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except UsageError:
        raise
    except (OSError, ValueError, TypeError, SafetensorError) as error:
        raise DamageError(f"checkpoint {path} must be whole, but does not read: {error}") from error
