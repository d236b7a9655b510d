"""Two processes of torchrun train and evaluate as one does."""

import json
import subprocess
import sys

import pytest
import torch
from reelmill.train import checkpoint
from reelmill.train.config import ApClipConfig, ClassesConfig, DataConfig, EvalConfig, OptimizerConfig, TrainConfig
from reelmill.train.config.file import dump_config
from reelmill.train.evaluation import evaluate
from reelmill.train.run import train
from reelmill.train.run_log import read_metrics
from safetensors.torch import load_file

SCRIPT = """
import sys
from pathlib import Path
from reelmill.train.config import EvalConfig
from reelmill.train.config.file import load_run_config
from reelmill.train.evaluation import evaluate
from reelmill.train.run import train
train(load_run_config(Path(sys.argv[1])))
evaluate(EvalConfig(run=Path(sys.argv[2]), batch=4))
"""


@pytest.fixture
def config(small_dataset, mini_model, tmp_path):
    return TrainConfig(
        dataset=str(small_dataset),
        out=tmp_path / "one",
        model=mini_model,
        method=ApClipConfig(prompts_per_class=0),
        classes=ClassesConfig(novel=("sit down",)),
        data=DataConfig(train_split="", eval_split="", frames=2, threads=1),
        optimizer=OptimizerConfig(kind="sgd", lr=0.1, average=0.5),
        global_batch=4,
        accumulate=2,
        steps=4,
        log_every=2,
        eval_every=2,
        threads=1,
    )


def test_two_ranks_train_and_evaluate_as_one(config, tmp_path):
    train(config)
    wanted = evaluate(EvalConfig(run=config.out, batch=4))

    asked, out, script = tmp_path / "asked", tmp_path / "two", tmp_path / "script.py"
    asked.mkdir()
    (asked / "config.json").write_text(json.dumps(json.loads(dump_config(config)) | {"out": str(out)}))
    script.write_text(SCRIPT)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run([*torchrun, str(script), str(asked), str(out)], capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr[-2000:]

    paths = [checkpoint.latest(run) for run in (config.out, out)]
    one, two = (load_file(path / "open_clip_model.safetensors") for path in paths if path is not None)
    for name, weight in one.items():
        torch.testing.assert_close(two[name], weight, rtol=1e-4, atol=1e-6, msg=f"{name} differs")
    found = json.loads((out / "eval-base-novel.json").read_text())
    samples = {name: task["top1"]["samples"] for name, task in found["tasks"].items()}
    assert (
        samples == {name: task["top1"]["samples"] for name, task in wanted["tasks"].items()} == {"base": 10, "novel": 5}
    )
    rows, again = (read_metrics(run) for run in (config.out, out))
    assert [row["step"] for row in again] == [row["step"] for row in rows]
    assert again[0]["loss"] == pytest.approx(rows[0]["loss"], rel=1e-4)
    assert done.stdout.count("4, each of 4 clips") == 1  # only the first rank speaks
