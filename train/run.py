"""`reelmill train`: a run's folder, and everything that the loop needs."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ..console import table
from ..shards.errors import UsageError
from ..shards.files import make_folder, write_atomic
from ..shards.manifest import read_manifest
from . import checkpoint, distributed, run_log
from .clips import evaluation_clips, frame_width, training_clips
from .config import NOT_PART_OF_A_RUN, TrainConfig
from .config.file import CONFIG, dump_config, load_run_config
from .evaluation import score
from .loop import Trainer
from .methods import make_method
from .metrics import top1
from .model import VideoTextModel, choose_device
from .protocols import base_classes


def train(config: TrainConfig) -> Path:
    """Train a run to its end, or go on with it from its newest checkpoint.

    Returns:
        The run's folder.

    Raises:
        UsageError: the config, the dataset, the bank and the folder do not fit together; found before training.
        ReelmillError: the loss left the numbers, or SIGTERM came.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    device = distributed.start(choose_device(config.device))
    base = base_classes(config.classes, read_manifest(config.dataset).classes)
    config = replace(config, classes=replace(config.classes, base=base))
    torch.manual_seed(config.seed)
    model = VideoTextModel.create(config.model, precision=config.precision).to(device)
    model.learn(config.model)
    model.prepare(config.model)
    method = make_method(config, model, frame_width=frame_width(config, model)).to(device)
    if config.classes.novel:
        method.describe(config.classes.novel, training=False)  # a novel class that is no action is said now
    loader = training_clips(config, model, base)
    total = config.steps or config.epochs * len(loader)
    trainer = Trainer(config, method, base, loader, total=total)
    if distributed.rank() == 0:
        _open_folder(config)
    distributed.barrier()
    trainer.resume()

    def validate() -> dict[str, float]:
        clips = evaluation_clips(config, model, base, batch=config.global_batch)
        book = score(method, clips, base)
        return {"eval_base_top1": top1(book.scores_NC(), book.labels_N()).accuracy}

    with run_log.RunLog(config.out, after_step=trainer.step) as log:
        trainer.fit(log, validate)
    if distributed.rank() == 0:
        _print_summary(config, total)
    return config.out


def _open_folder(config: TrainConfig) -> None:
    """Make the run's folder, or check that it is this same run unfinished."""
    run = config.out
    if (run / CONFIG).is_file() and not config.resume:
        _clear(run)
    if (run / CONFIG).is_file():
        changed = _differences(json.loads(dump_config(load_run_config(run))), json.loads(dump_config(config)))
        if changed:
            raise UsageError(
                f"{run} holds a run of another config ({', '.join(changed)}); give another --out, or --no-resume to "
                "start over"
            )
    elif run.exists() and (not run.is_dir() or any(run.iterdir())):
        raise UsageError(f"out must be a new or empty folder or an unfinished run, got {run}")
    make_folder(run)
    write_atomic(run / CONFIG, dump_config(config).encode())


def _clear(run: Path) -> None:
    """Remove what a run wrote; the config last, so that a killed removal is still seen as a run."""
    for folder in (checkpoint.FOLDER, "tensorboard"):
        shutil.rmtree(run / folder, ignore_errors=True)
    for path in [run / run_log.NAME, run / "quarantine.jsonl", *run.glob("eval-*.json"), run / CONFIG]:
        path.unlink(missing_ok=True)


def _differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    names = []
    for key in sorted(old.keys() | new.keys()):
        before, after = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            names += _differences(before, after, f"{prefix}{key}.")
        elif before != after and prefix + key not in NOT_PART_OF_A_RUN:
            names.append(f"{prefix}{key} {before!r} is now {after!r}")
    return names


def _lines(path: Path) -> int:
    with path.open("rb") as file:
        return sum(1 for _ in file)


def _print_summary(config: TrainConfig, total: int) -> None:
    rows = [row for row in run_log.read_metrics(config.out) if "loss" in row]
    quarantine = config.out / "quarantine.jsonl"
    bad = [("set aside", f"{_lines(quarantine)} undecodable clips: {quarantine}")] if quarantine.exists() else []
    table(
        "trained",
        [
            ("steps", f"{total}, each of {config.global_batch} clips"),
            *bad,
            ("loss", f"{rows[0]['loss']:.3f} at step {rows[0]['step']}, {rows[-1]['loss']:.3f} at the end"),
            ("speed", f"{rows[-1]['samples_per_second']:.1f} clips/s, {rows[-1]['stall_share']:.0%} waiting for clips"),
            ("checkpoint", str(checkpoint.latest(config.out))),
            ("curves", f"tensorboard --logdir {config.out / 'tensorboard'}"),
        ],
    )
