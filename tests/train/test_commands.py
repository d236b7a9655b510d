"""`reelmill train` and `reelmill eval`, as they are typed."""

from typing import get_type_hints

import pytest
from reelmill.__main__ import main, parse
from reelmill.train import commands
from reelmill.train.config import AceConfig, ApClipConfig, CimConfig, CocoConfig
from reelmill.train.run_log import read_metrics


@pytest.fixture
def config_file(small_dataset, mini_model, tmp_path):
    path = tmp_path / "config.toml"
    path.write_text(
        f'dataset = "{small_dataset}"\nout = "run"\nsteps = 9\nglobal_batch = 4\n[model]\nname = "{mini_model.name}"\n'
        '[method]\nprompts_per_class = 0\n[data]\ntrain_split = ""\neval_split = ""\nframes = 2\n'
    )
    return path


def test_flags_win_over_the_file_and_the_run_is_evaluated(config_file, tmp_path, capsys):
    flags = ["--steps", "2", "--classes.novel", "jump", "--data.threads", "1"]
    assert main(["train", str(config_file), *flags]) == 0
    assert [row["step"] for row in read_metrics(tmp_path / "run")] == [2]
    assert main(["eval", str(tmp_path / "run"), "--protocol", "base-novel", "--given", "last-word"]) == 0
    assert "novel top-1 of 1" in capsys.readouterr().out


def config_of(words):
    """What the train command is asked to do by these words."""
    words = list(words)
    return parse(
        get_type_hints(commands.train, include_extras=True)["config"], words, "", commands.train_default(words)
    )


@pytest.mark.parametrize("flag", [["--method.name", "ace"], ["--method.name=ace"]])
def test_a_method_is_named_by_a_flag_or_by_the_file(flag, tmp_path):
    places = ["--dataset", "data", "--out", "run"]
    config = config_of([*places, *flag, "--method.tau", "0.1"])
    assert (config.method, config.dataset) == (AceConfig(tau=0.1), "data")
    assert config_of(places).method == ApClipConfig()
    path = tmp_path / "coco.toml"
    path.write_text('dataset = "data"\nout = "run"\n[method]\nname = "coco"\nalpha = 0.2\n')
    method = config_of([str(path), "--method.cim.weight", "2", "--method.no-cosine"]).method
    assert method == CocoConfig(alpha=0.2, cim=CimConfig(weight=2.0), cosine=False)


def test_help_shows_the_flags_of_the_method(capsys):
    with pytest.raises(SystemExit):
        config_of(["--method.name", "coco", "--help"])
    out = capsys.readouterr().out
    assert "--method.cim.unseen-texts" in out
    assert "--method.prefix" not in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "none.toml"], "config none.toml must be a readable file: No such file or directory"),
        (["train"], "dataset"),
        (["train", "--method.name", "aec"], "--method.name must be one of ap-clip, ace, "),
        (["eval", "nowhere"], "nowhere must be the folder of a run, with its config.json"),
        (["eval", "nowhere", "--crops", "2"], "crops"),
    ],
)
def test_the_users_mistakes_are_one_line_and_exit_code_two(words, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
