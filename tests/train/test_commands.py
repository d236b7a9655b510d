"""`reelmill train` and `reelmill eval`, as they are typed."""

import pytest
from reelmill.__main__ import main
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


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "none.toml"], "config none.toml must be a readable file: No such file or directory"),
        (["train"], "dataset"),
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
