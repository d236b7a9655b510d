"""The command line: exit codes 0, 1 and 2, one line for a mistake, help from the config dataclasses."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from reelmill import __version__
from reelmill.__main__ import COMMANDS, main


def run(capsys, *words: str) -> tuple[int, str, str]:
    code = main(words)
    said = capsys.readouterr()
    return code, said.out, said.err


def test_help_and_version(capsys):
    code, out, _ = run(capsys)
    assert code == 0
    assert all(name.split()[0] in out for name in COMMANDS)
    assert run(capsys, "bench", "--help") == (0, out, "")
    assert run(capsys, "version") == (0, f"reelmill {__version__}\n", "")


@pytest.mark.parametrize("name", [name for name in COMMANDS if not name.startswith("bench")])
def test_every_command_has_help(capsys, name):
    with pytest.raises(SystemExit) as stop:
        main([*name.split(), "--help"])
    assert stop.value.code == 0
    assert f"usage: reelmill {name}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["fly"], "command must be one of demo, ingest, "),
        (["bench"], "command must be one of demo, ingest, "),
        (["ingest"], "INPUT"),
        (["ingest", "in"], "OUT"),
        (["ingest", "in", "out", "--presett", "archive"], "Unrecognized options: --presett"),
        (["ingest", "in", "out", "--preset", "fast"], "invalid choice 'fast' for argument '--preset'"),
        (["ingest", "in", "out", "--shard-mb", "many"], "--shard-mb: invalid literal for int"),
        (["ingest", "in", "out", "--shard-mb", "0"], "shard_mb must be > 0, got 0"),
        (["ingest", "/nowhere", "out"], "input /nowhere must be a folder or a manifest, but there is nothing"),
        (["verify", "/nowhere"], "/nowhere must be a dataset"),
        (["bank", "build", "/nowhere.csv", "out"], "records /nowhere.csv must be a csv"),
        (["bench", "kernels", "--repeats", "1"], "reelmill: repeats must be >= 3, got 1 (see reelmill bench"),
        (["train", "/nowhere.toml"], "/nowhere.toml"),
        (["train", "--dataset", "x", "--out", "y", "--step", "3"], "--step, 3 (did you mean --steps?)"),
        (["train", "--dataset", "x", "--out", "y", "--optimizer.lr", "0"], "optimizer.lr must be > 0 and finite"),
        (["eval", "/nowhere"], "/nowhere"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(capsys, words, message):
    code, out, err = run(capsys, *words)
    assert (code, out) == (2, "")
    assert message in err
    assert err.startswith("reelmill: ")
    assert err.count("\n") == 1


def test_no_traceback_reaches_the_person():
    result = subprocess.run([sys.executable, "-m", "reelmill", "verify", "/nowhere"], capture_output=True, text=True)
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1


def test_doctor_says_what_there_is(capsys):
    code, out, _ = run(capsys, "doctor")
    assert code == 0
    for name in ("python", "gpu", "dali", "triton", "codecs", "ray", "open_clip", "disk"):
        assert f"  {name} " in out


@pytest.mark.usefixtures("local_ray")
def test_ingest_and_verify_from_the_command_line(capsys, media, tmp_path):
    media.video(tmp_path / "videos/jump/a.mp4", frames=6)
    (tmp_path / "videos/jump/empty.mp4").touch()
    (tmp_path / "videos/notes.txt").touch()
    out = tmp_path / "out"
    code, said, progress = run(capsys, "ingest", str(tmp_path / "videos"), str(out), "--preset", "train-cpu")
    assert code == 0
    assert "ingested 2 inputs" in said
    assert "failed: jump/empty.mp4: empty: 0 bytes" in said
    assert "ignored files  1" in said
    assert "decode cost" in said
    assert "probe: 2/2 videos" in progress
    assert run(capsys, "verify", str(out))[0] == 0

    tar = out / "shards/000000.tar"
    tar.write_bytes(tar.read_bytes().replace(b"jump", b"jumq", 1))
    code, said, err = run(capsys, "verify", str(out))
    assert code == 1
    assert "fault: 000000.tar" in said
    assert "faults" in err


@pytest.mark.usefixtures("local_ray")
def test_too_many_failures_make_the_job_fail(capsys, media, tmp_path):
    media.video(tmp_path / "videos/a.mp4", frames=6)
    (tmp_path / "videos/empty.mp4").touch()
    words = ["ingest", str(tmp_path / "videos"), str(tmp_path / "out"), "--max-failed-fraction", "0.4"]
    code, _, err = run(capsys, *words)
    assert code == 1
    assert "1 of 2 inputs failed, more than max_failed_fraction 0.4" in err
    assert (tmp_path / "out/dataset.json").exists()  # what went well is kept


def test_bank_build_from_the_command_line(capsys, tmp_path):
    records = tmp_path / "records.jsonl"
    records.write_text("".join(json.dumps({"action": a, "text": a}) + "\n" for a in ("jump", "fly")))
    (tmp_path / "labels.txt").write_text("jump\n")
    words = ["bank", "build", str(records), str(tmp_path / "bank"), "--labels", str(tmp_path / "labels.txt")]
    code, out, _ = run(capsys, *words)
    assert code == 0
    assert "set aside" in out


def test_the_demo_leaves_a_folder_that_is_not_its_own_alone(capsys, tmp_path):
    (tmp_path / "thesis.txt").touch()
    code, _, err = run(capsys, "demo", "--out", str(tmp_path))
    assert code == 2
    assert "holds something else" in err
    assert (tmp_path / "thesis.txt").exists()


def test_run_script_finds_its_python(tmp_path):
    """`./run` without a fitting Python says what it needs."""
    script = Path(__file__).resolve().parents[1] / "run"
    shutil.copy(script, tmp_path / "run")
    for name in ("pyproject.toml", "lock.txt"):
        (tmp_path / name).touch()
    for name in ("bash", "cat", "sha256sum", "cut", "dirname"):
        (tmp_path / name).symlink_to(shutil.which(name) or name)
    result = subprocess.run(
        ["bash", "run", "help"], cwd=tmp_path, env={"PATH": str(tmp_path)}, capture_output=True, text=True
    )
    assert result.returncode == 1
    assert "needs Python 3.11 or 3.12 on the PATH" in result.stderr
