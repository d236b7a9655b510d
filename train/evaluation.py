"""`reelmill eval`: a run's newest checkpoint under a protocol, every figure beside what guessing would reach."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from typing import Any

import torch

from ..console import progress, table
from ..engine import Batch, ClipLoader
from ..shards.errors import UsageError
from ..shards.files import write_atomic
from . import checkpoint, distributed
from .clips import evaluation_clips, frame_width, pictures
from .config import CocoConfig, EvalConfig, Given, TrainConfig
from .config.file import load_run_config
from .methods import Method, make_method
from .metrics import ScoreBook, harmonic_mean, per_class, top1, top1_within
from .model import choose_device
from .protocols import groups, tasks


@torch.no_grad()
def score(method: Method, batches: Iterable[Batch], classes: Sequence[str]) -> ScoreBook:
    """Score every sample of the batches against the classes, whose texts are encoded once."""
    training = method.training
    method.eval()
    book = ScoreBook()
    texts = method.describe(classes, training=False)
    states = method.model.encode_texts(texts.strings, words=method.reads_words)
    for batch in batches:
        video = method.model.encode_video(pictures(batch).to(method.device))
        logits_BC = method.scores(method(video, texts, states), texts, states)
        book.add(batch.keys, logits_BC, batch.labels_B, batch.valid_B)
    method.train(training)
    book.add_ranks()
    return book


def evaluate(config: EvalConfig) -> dict[str, Any]:
    """Evaluate a run, print a table and write RUN/eval-<protocol>.json.

    Returns:
        What the file holds: protocol, step, split, given, views; per task its top-1, chance and sample count, the same
        per class and within the classes that share the given word; for base-novel the harmonic mean. Shares in [0, 1].

    Raises:
        UsageError: the folder is no run, has no checkpoint, or the dataset has no sample for a task.
        DamageError: the checkpoint does not read.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    device = distributed.start(choose_device(config.device))
    run = _asked(config)
    path = checkpoint.latest(config.run)
    if path is None:
        raise UsageError(f"{config.run} must be a run with a checkpoint, but it has none yet")
    model, step = checkpoint.load_model(path, run.model, precision=run.precision)
    method = make_method(run, model, frame_width=frame_width(run, model)).to(device)
    checkpoint.load_method(path, method)
    results: dict[str, Any] = {
        "protocol": config.protocol,
        "step": step,
        "split": run.data.eval_split,
        "views": f"{config.clips}x{config.crops}",
        "given": config.given,
        **({"transductive": "unseen texts were read in training"} if _reads_unseen(run) else {}),
        "tasks": _tasks(run, config, method),
    }
    if config.protocol == "base-novel":
        base, novel = (results["tasks"][name]["top1"] for name in ("base", "novel"))
        results["harmonic_mean"] = {of: harmonic_mean(base[of], novel[of]) for of in ("accuracy", "chance")}
    target = config.run / f"eval-{config.protocol}.json"
    if distributed.rank() == 0:
        write_atomic(target, (json.dumps(results, indent=1) + "\n").encode())
        table(f"{config.protocol} after {step} steps", [*summary_rows(results), ("written", str(target))])
    return results


def _reads_unseen(run: TrainConfig) -> bool:
    return isinstance(run.method, CocoConfig) and bool(run.method.cim.unseen_texts)


def _tasks(run: TrainConfig, config: EvalConfig, method: Method) -> dict[str, Any]:
    """The figures of each closed set of classes that the protocol names."""
    figures = {}
    for name, classes in tasks(config.protocol, run.classes.base, run.classes.novel).items():
        loader = evaluation_clips(
            run, method.model, classes, batch=config.batch, clips=config.clips, crops=config.crops
        )
        book = score(method, _shown(loader, name), classes)
        if not len(book.labels_N()):
            wanted = f"readable samples of the {len(classes)} {name} classes in split {run.data.eval_split!r}"
            raise UsageError(f"{run.dataset} must have {wanted}, but there are none")
        figures[name] = _figures(book, classes, config.given)
    return figures


def _shown(loader: ClipLoader, task: str) -> Iterator[Batch]:
    with progress(len(loader), f"evaluate {task}", "batch") as bar:
        for batch in loader:
            yield batch
            bar.update()


def _asked(config: EvalConfig) -> TrainConfig:
    """The run's config with what the evaluation asks for in its place."""
    run = load_run_config(config.run)
    split = run.data.eval_split if config.split is None else config.split
    data = replace(run.data, eval_split=split)
    return replace(run, out=config.run, dataset=config.dataset or run.dataset, data=data)


def _figures(book: ScoreBook, classes: tuple[str, ...], given: Given) -> dict[str, Any]:
    scores_NC, labels_N = book.scores_NC(), book.labels_N()
    within = None if given == "none" else asdict(top1_within(scores_NC, labels_N, groups(classes, given)))
    return {
        "classes": len(classes),
        "unreadable": book.unreadable,
        "top1": asdict(top1(scores_NC, labels_N)),
        "given": within,
        "per_class": {name: asdict(value) for name, value in per_class(scores_NC, labels_N, classes).items()},
    }


def summary_rows(results: dict[str, Any]) -> list[tuple[str, str]]:
    """The figures of an evaluation in words, each beside its chance."""
    rows = []
    for name, task in results["tasks"].items():
        rows.append((f"{name} top-1 of {task['classes']}", beside_chance(task["top1"])))
        if task["given"] is not None:
            rows.append((f"{name} top-1, {results['given'].replace('-', ' ')} given", beside_chance(task["given"])))
        if task["unreadable"]:
            rows.append((f"{name} unreadable", f"{task['unreadable']} samples, not counted"))
    if "harmonic_mean" in results:
        mean = results["harmonic_mean"]
        rows.append(("harmonic mean", f"{mean['accuracy']:.1%} (chance {mean['chance']:.1%})"))
    return rows


def beside_chance(figure: dict[str, Any]) -> str:
    """12.3% (chance 1.6%, 512 samples)."""
    if not figure["samples"]:
        return "no sample to ask"
    return f"{figure['accuracy']:.1%} (chance {figure['chance']:.1%}, {figure['samples']} samples)"
