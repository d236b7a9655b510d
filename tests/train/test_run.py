"""Training and evaluating through real shards."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from reelmill.engine.config import FeaturesConfig
from reelmill.engine.features.load import load_features
from reelmill.shards.errors import UsageError
from reelmill.shards.reader import Dataset
from reelmill.train import checkpoint
from reelmill.train.config import ApClipConfig, ClassesConfig, DataConfig, EvalConfig, OptimizerConfig, TrainConfig
from reelmill.train.evaluation import evaluate
from reelmill.train.run import train
from reelmill.train.run_log import read_metrics


def newest(run):
    path = checkpoint.latest(run)
    assert path is not None
    return path


@pytest.fixture
def config(small_dataset, mini_model, tmp_path):
    return TrainConfig(
        dataset=str(small_dataset),
        out=tmp_path / "run",
        model=mini_model,
        method=ApClipConfig(prompts_per_class=0),
        classes=ClassesConfig(novel=("sit down",)),
        data=DataConfig(train_split="", eval_split="", frames=2, threads=1),
        optimizer=OptimizerConfig(lr=1e-2),
        global_batch=4,
        steps=6,
        log_every=2,
        eval_every=3,
        checkpoint_every=3,
    )


def test_a_run_trains_resumes_and_is_evaluated(config, capsys):
    assert train(config) == config.out
    out = capsys.readouterr().out
    assert "6, each of 4 clips" in out
    assert "step-00000006" in out
    weights = newest(config.out) / "open_clip_model.safetensors"
    straight = weights.read_bytes()
    assert [row["step"] for row in read_metrics(config.out) if "eval_base_top1" in row] == [3, 6]

    weights.parent.rename(config.out / "later")  # as if it had been killed after step 3
    train(replace(config, log_every=5))
    assert weights.read_bytes() == straight

    results = evaluate(EvalConfig(run=config.out, given="last-word", clips=2, batch=3))
    assert json.loads((config.out / "eval-base-novel.json").read_text()) == results
    assert (results["step"], results["views"]) == (6, "2x1")
    base, novel = results["tasks"]["base"], results["tasks"]["novel"]
    assert (base["classes"], base["top1"]["samples"], base["top1"]["chance"]) == (2, 10, 0.5)
    assert base["per_class"].keys() == {"jump", "run"}
    assert base["given"]["samples"] == 0  # no two labels share their last word
    assert (novel["top1"]["samples"], novel["top1"]["accuracy"]) == (5, 1.0)
    out = capsys.readouterr().out
    assert "base top-1 of 2" in out
    assert "(chance 50.0%, 10 samples)" in out
    assert "harmonic mean" in out

    moved = config.out.rename(config.out.with_name("moved"))
    results = evaluate(EvalConfig(run=moved, protocol="closed-set", batch=64))
    assert results["tasks"].keys() == {"base"}
    assert (moved / "eval-closed-set.json").is_file()


def test_a_run_of_another_config_is_not_overwritten_unless_asked(config):
    short = replace(config, steps=1, eval_every=0)
    train(short)
    other = replace(short, optimizer=OptimizerConfig(lr=2e-2), steps=2)
    with pytest.raises(UsageError, match=r"holds a run of another config \(optimizer.lr 0.01 is now 0.02, steps"):
        train(other)
    train(replace(other, resume=False))
    assert [row["step"] for row in read_metrics(config.out)] == [2]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": ClassesConfig(novel=("sit",))}, "classes.novel must be labels of the dataset, but it has no"),
        ({"method": ApClipConfig()}, "must carry a bank"),
        ({"global_batch": 64}, "must hold at least 64 samples"),
        ({"data": DataConfig(train_split="trian")}, "must hold at least 4 samples of split 'trian' and 2 classes"),
    ],
)
def test_what_does_not_fit_is_said_before_a_folder_is_made(config, changes, message):
    with pytest.raises(UsageError, match=message):
        train(replace(config, **changes))
    assert not config.out.exists()


def test_a_folder_of_something_else_is_left_alone(config):
    config.out.mkdir()
    (config.out / "thesis.txt").touch()
    with pytest.raises(UsageError, match="out must be a new or empty folder or an unfinished run, got"):
        train(config)
    assert [path.name for path in config.out.iterdir()] == ["thesis.txt"]


def test_evaluations_that_cannot_be_made_say_why(config):
    train(replace(config, steps=1, eval_every=0, classes=ClassesConfig()))
    with pytest.raises(UsageError, match=r"protocol base-novel needs a run with novel classes, but its"):
        evaluate(EvalConfig(run=config.out))
    with pytest.raises(UsageError, match="must hold at least 1 samples of split 'test'"):
        evaluate(EvalConfig(run=config.out, protocol="closed-set", split="test"))
    newest(config.out).rename(config.out / "away")
    with pytest.raises(UsageError, match="must be a run with a checkpoint, but it has none yet"):
        evaluate(EvalConfig(run=config.out))


def test_a_run_over_features_reads_no_video(config, small_dataset, tmp_path, capsys):
    dataset = tmp_path / "dataset"
    shutil.copytree(small_dataset, dataset)
    files = tmp_path / "files"
    files.mkdir()
    rows = Dataset(dataset).table(["key", "labels"]).to_pylist()
    labels = {row["key"]: row["labels"][0] for row in rows}
    for number, (key, label) in enumerate(labels.items()):
        noise = np.random.default_rng(number).normal(size=(6, 16)).astype(np.float32)
        noise[:, len(label) % 16] += 5  # what is learnt
        np.save(files / f"{key}.npy", noise)
    load_features(FeaturesConfig(dataset=dataset, source=files, name="clip"))
    over = replace(config, dataset=str(dataset), data=replace(config.data, features="clip"), steps=20, eval_every=0)
    train(over)
    results = evaluate(EvalConfig(run=config.out, protocol="closed-set"))
    assert results["tasks"]["base"]["top1"]["accuracy"] == 1.0
    assert "clips/s" in capsys.readouterr().out

    with pytest.raises(UsageError, match=r"features/none/features\.json must be a file of the dataset"):
        train(replace(over, out=tmp_path / "other", data=replace(config.data, features="none")))
    (files / "wide").mkdir()
    for key in labels:
        np.save(files / "wide" / f"{key}.npy", np.zeros((6, 20), np.float32))
    load_features(FeaturesConfig(dataset=dataset, source=files / "wide", name="wide"))
    with pytest.raises(
        UsageError, match=r"must have the width 16 of the encoders' space for the method ap-clip, got 20"
    ):
        train(replace(over, out=tmp_path / "other", data=replace(config.data, features="wide")))
