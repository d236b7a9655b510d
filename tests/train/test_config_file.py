"""Configs out of TOML: what is wrong is named, with what it must be."""

import json
from pathlib import Path

import pytest
from reelmill.shards.errors import UsageError
from reelmill.train.config import (
    AceConfig,
    ApClipConfig,
    CimConfig,
    ClassesConfig,
    CocoConfig,
    EvalConfig,
    OptimizerConfig,
    TrainConfig,
)
from reelmill.train.config.file import dump_config, load_config, load_run_config

LEAST = 'dataset = "data"\nout = "runs/a"\n'


def write(folder: Path, text: str) -> Path:
    path = folder / "config.toml"
    path.write_text(text)
    return path


def test_a_whole_config_is_read_and_its_paths_are_relative_to_its_folder(tmp_path):
    (tmp_path / "novel.txt").write_text("push cup\n\n lift box \n")
    (tmp_path / "weights.safetensors").touch()
    text = LEAST + (
        'global_batch = 32\nprecision = "bf16"\n[model]\npretrained = "weights.safetensors"\n'
        '[classes]\nbase = ["open door"]\nnovel = "novel.txt"\n[optimizer]\nlr = 1\nbetas = [0.8, 0.9]\n'
    )
    config = load_config(write(tmp_path, text))
    assert config.dataset == str(tmp_path / "data")
    assert config.out == tmp_path / "runs" / "a"
    assert config.model.pretrained == str(tmp_path / "weights.safetensors")
    assert config.model.name == "reelmill-tiny"
    assert config.classes == ClassesConfig(base=("open door",), novel=("push cup", "lift box"))
    assert config.optimizer == OptimizerConfig(lr=1.0, betas=(0.8, 0.9))
    assert (config.global_batch, config.precision, config.steps) == (32, "bf16", None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (LEAST + "globl_batch = 3", "unknown key 'globl_batch'; did you mean 'global_batch'?"),
        (LEAST + "[optimizer]\nlrr = 1.0", "unknown key 'optimizer.lrr'; did you mean 'optimizer.lr'?"),
        (LEAST + "[data]\nzzz = 1.0", "unknown key 'data.zzz'; known are train_split, eval_split, frames"),
        ('out = "a"', "the key 'dataset' must be given, but is missing"),
        (LEAST + 'epochs = "3"', "'epochs' must be a whole number, got '3'"),
        (LEAST + "epochs = 3.0", "'epochs' must be a whole number, got 3.0"),
        (LEAST + "epochs = true", "'epochs' must be a whole number, got True"),
        (LEAST + "resume = 1", "'resume' must be true or false, got 1"),
        (LEAST + 'steps = "all"', "'steps' must be a whole number, got 'all'"),
        (LEAST + "[optimizer]\nlr = true", "'optimizer.lr' must be a number, got True"),
        (LEAST + "[optimizer]\nbetas = [0.9]", "'optimizer.betas' must be a list of 2 numbers, got [0.9]"),
        (LEAST + "[optimizer]\nbetas = 0.9", "'optimizer.betas' must be a list of 2 numbers, got 0.9"),
        (LEAST + 'precision = "fp8"', "'precision' must be one of 'fp32', 'bf16', got 'fp8'"),
        (LEAST + "model = 3", "'model' must be a table, got 3"),
        (LEAST + "out = 3", "Cannot overwrite a value"),
        ("dataset = 3\nout = 'a'", "'dataset' must be a string, got 3"),
        ("dataset = 'a'\nout = 3", "'out' must be a path, got 3"),
        (LEAST + "[classes]\nbase = [1]", "'classes.base' must be a list of strings or the name of a file with one"),
        (LEAST + "[classes]\nbase = 'none.txt'", "'classes.base' names the file"),
        (LEAST + "[classes]\nbase = ['a', 'b', 'a']", "classes.base must be free of repeated labels, got ['a']"),
        (LEAST + "[classes]\nbase = ['a']\nnovel = ['a']", "classes.novel must be without labels of classes.base"),
        (LEAST + "[optimizer]\nlr = 0.0", "optimizer.lr must be > 0 and finite, got 0.0"),
        (LEAST + "[optimizer]\nlr = nan", "optimizer.lr must be > 0 and finite, got nan"),
        (LEAST + "[data]\nframes = 0", "data.frames must be > 0, got 0"),
        (
            LEAST + "[method]\nprefix = '{action} and {action}'",
            "method.prefix must be a text with {action} in it once at most, got",
        ),
        (LEAST + "log_every = 0", "log_every must be > 0, got 0"),
        (
            LEAST + "[model]\nvideo = 'space-time'\nmax_frames = 7",
            "model.max_frames must be >= data.frames, which is 8, got 7",
        ),
        (LEAST + "[method]\nname = 'aec'", "'method.name' must be one of 'ap-clip', 'ace'"),
        (LEAST + "[method]\nname = 'ace'\nprefix = ''", "unknown key 'method.prefix'; known are name, prompt"),
        ("dataset = ", "must be TOML: "),
    ],
)
def test_what_is_wrong_is_named(tmp_path, text, message):
    path = write(tmp_path, text)
    with pytest.raises(UsageError) as caught:
        load_config(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


def test_the_methods_name_says_which_options_it_has(tmp_path):
    (tmp_path / "unseen.txt").write_text("push cup\nlift box\n")
    text = '[method]\nname = "coco"\nalpha = 1\n[method.cim]\nunseen_texts = "unseen.txt"\n'
    config = load_config(write(tmp_path, LEAST + text))
    assert config.method == CocoConfig(alpha=1.0, cim=CimConfig(unseen_texts=("push cup", "lift box")))
    (tmp_path / "config.json").write_text(dump_config(config))
    assert load_run_config(tmp_path).method == config.method
    assert load_config(write(tmp_path, LEAST + '[method]\nname = "ace"')).method == AceConfig()
    assert load_config(write(tmp_path, LEAST)).method == ApClipConfig()


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"config .*none\.toml must be a readable file: No such file"):
        load_config(tmp_path / "none.toml")


def test_a_url_and_a_tag_are_not_paths(tmp_path):
    config = load_config(write(tmp_path, 'dataset = "s3://bucket/data"\nout = "a"\n[model]\npretrained = "openai"'))
    assert (config.dataset, config.model.pretrained) == ("s3://bucket/data", "openai")


def test_a_run_reads_its_own_config_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = TrainConfig(dataset="data", out=Path("run"), steps=3, classes=ClassesConfig(novel=("a b",)))
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.json").write_text(dump_config(config))
    monkeypatch.chdir("/")
    again = load_run_config(run)
    assert again.dataset == str(tmp_path / "data")
    assert (again.out, again.steps, again.classes) == (run, 3, config.classes)
    assert dump_config(again) == (run / "config.json").read_text()
    assert "pretrained" not in json.loads(dump_config(again))["model"]


def test_a_folder_that_is_no_run_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"must be the folder of a run, with its config\.json"):
        load_run_config(tmp_path)


def test_an_evaluation_checks_itself(tmp_path):
    with pytest.raises(UsageError, match="clips must be > 0, got 0"):
        EvalConfig(run=tmp_path, clips=0)
