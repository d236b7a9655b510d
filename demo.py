"""`reelmill demo`: the whole way on a rendered corpus, by the same functions that the commands call.

Raw H.264 videos and descriptions → bank → tars → training on base classes → evaluation on classes never seen → page.
"""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from . import console
from .benchmarks.toyverbs.corpus import write_corpus
from .engine import ClipLoader, LoaderConfig
from .engine.bank.records.build import build_bank
from .engine.bank.records.config import BankBuildConfig
from .engine.config import IngestConfig
from .engine.ingest import ingest
from .shards.errors import UsageError
from .shards.files import make_folder, write_atomic
from .train.config import EvalConfig
from .train.config.file import load_config
from .train.contact_sheet import contact_sheet
from .train.evaluation import evaluate, summary_rows
from .train.report import Stage, write_report
from .train.run import train

MARK = ".reelmill-demo"
SHEET_CLIPS = 12


@dataclass(frozen=True, kw_only=True, slots=True)
class DemoConfig:
    """Render a corpus, ingest it, build its bank, train, evaluate, write a report page."""

    out: Annotated[Path, tyro.conf.arg(metavar="DIR")] = Path("demo-out")
    """Where everything goes; a folder that an earlier demo made is emptied first."""
    videos: int = 1024
    """Videos to render, >= 320: fewer leave a class without a test video."""
    steps: int = 480
    """Training steps, > 0."""
    seed: int = 0
    """Of the videos and of the training, >= 0."""

    def __post_init__(self) -> None:
        if self.videos < 320 or self.steps <= 0 or self.seed < 0:
            asked = f"{self.videos}, {self.steps} and {self.seed}"
            raise UsageError(f"a demo must have videos >= 320, steps > 0 and seed >= 0, got {asked}")


# The model learns from random weights, so the rates are far above those for fine-tuning CLIP. Left and right carry
# meaning here: no flips.
TRAIN_TOML = """\
# Written by `reelmill demo`; run it again with: reelmill train {folder}/train.toml --out another-run
dataset = "dataset"
out = "run"
steps = {steps}
global_batch = 32
seed = {seed}
log_every = 10
eval_every = 100
threads = 1

[model]
name = "reelmill-tiny"

[method]
prefix = ""
prompts_per_class = 12

[classes]
base = "corpus/base.txt"
novel = "corpus/novel.txt"

[data]
threads = 1
flip = 0.0
min_crop_area = 0.8

[optimizer]
lr = 1e-3
weight_decay = 0.05
"""


def demo(config: DemoConfig) -> int:
    """`reelmill demo`."""
    out = config.out
    _prepare(out)
    stages: list[Stage] = []
    with _stage(stages, "render", out / "corpus") as tell, console.progress(config.videos, "render", "videos") as shown:
        corpus = write_corpus(out / "corpus", videos=config.videos, seed=config.seed, progress=shown.update)
        tell(f"{corpus.videos} H.264 videos, a copy and a damaged one")
    with _stage(stages, "bank build", out / "bank") as tell:
        # of texts made of a few templates those that differ in one word (left, right) are not the same
        texts = BankBuildConfig(records=corpus.descriptions, labels=(corpus.labels,), out=out / "bank", dedup="exact")
        bank = build_bank(texts)
        tell(f"{bank.descriptions} descriptions of {bank.actions} actions")
    with _stage(stages, "ingest --bank", out / "dataset") as tell:
        made = ingest(
            IngestConfig(input=corpus.manifest, out=out / "dataset", preset="train-cpu", bank=out / "bank", shard_mb=4)
        )
        tell(f"{made.manifest.totals['samples']} clips and the bank in {len(made.manifest.shards)} + 1 tars")
    write_atomic(out / "train.toml", TRAIN_TOML.format(folder=out, steps=config.steps, seed=config.seed).encode())
    with _stage(stages, "train", out / "run") as tell:
        train(load_config(out / "train.toml"))
        tell(f"{config.steps} steps on the base classes, from random weights")
    with _stage(stages, "eval", out / "run") as tell:
        results = evaluate(EvalConfig(run=out / "run", protocol="base-novel", given="last-word"))
        tell("base and novel classes, each among their own")
    report = out / "report.html"
    write_report(
        report,
        title="reelmill demo: verbs never seen in training",
        run=out / "run",
        stages=stages,
        dataset=out / "dataset",
        contact_sheet=_sheet(out / "dataset"),
    )
    rows = [(stage.name, f"{stage.seconds:6.1f} s  {console.human_bytes(stage.bytes or 0)}") for stage in stages]
    rows.append(("inputs", ", ".join(f"{count} {status}" for status, count in made.counts.items() if count)))
    console.table("demo", [*rows, *summary_rows(results), ("report", str(report.absolute()))])
    return 0


def _prepare(out: Path) -> None:
    """An empty folder with our mark; only a folder with the mark is ever emptied."""
    if (out / MARK).is_file():
        shutil.rmtree(out)
    elif out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"out must be a new or empty folder, or one that a demo made, but {out} holds something else")
    make_folder(out)
    write_atomic(out / MARK, b"")


@contextmanager
def _stage(stages: list[Stage], name: str, made: Path) -> Iterator[Callable[[str], None]]:
    """Time the block, and count the bytes that it left under `made`; yields what takes a few words on it."""
    print(f"\n== {name}", flush=True)
    before, start = _bytes_under(made), time.monotonic()
    words: list[str] = []
    yield words.append
    seconds, left = time.monotonic() - start, _bytes_under(made) - before
    stages.append(Stage(name=name, seconds=seconds, bytes=left, detail=", ".join(words)))


def _bytes_under(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _sheet(dataset: Path) -> list[tuple[str, bytes]]:
    config = LoaderConfig(global_batch=SHEET_CLIPS, training=False, split="test", size=64)
    return contact_sheet(ClipLoader(dataset, config), clips=SHEET_CLIPS)
