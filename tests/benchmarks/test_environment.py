import json
import platform
import subprocess

import pytest
import torch
from reelmill.benchmarks.environment import append, capture, commit


def git(folder, *arguments):
    names = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    return subprocess.run(["git", "-C", folder, *names, *arguments], check=True, capture_output=True, text=True).stdout


def test_a_capture_is_json_and_says_where_it_ran():
    found = json.loads(json.dumps(capture()))
    assert found["machine"]["cpu"]
    assert found["machine"]["cores"] >= 1
    assert found["machine"]["memory_bytes"] > 1e8
    assert (found["machine"]["gpu"] is not None) == torch.cuda.is_available()
    assert found["python"] == platform.python_version()
    assert found["versions"]["torch"] == torch.__version__
    assert set(found["versions"]) == {"torch", "triton", "dali", "pyarrow", "ray", "av", "webdataset", "open_clip"}
    assert found["date"].endswith("+00:00")


def test_a_commit_is_named_and_marked_when_files_differ_from_it(tmp_path):
    assert commit(tmp_path) is None
    git(tmp_path, "init", "-q")
    assert commit(tmp_path) is None  # nothing committed yet
    (tmp_path / "file").write_text("one")
    git(tmp_path, "add", "file")
    git(tmp_path, "commit", "-qm", "one")
    head = git(tmp_path, "rev-parse", "HEAD").strip()
    assert commit(tmp_path) == head
    (tmp_path / "file").write_text("two")
    assert commit(tmp_path) == f"{head}-dirty"


def test_a_copy_inside_another_checkout_has_no_commit(tmp_path):
    git(tmp_path, "init", "-q")
    git(tmp_path, "commit", "-qm", "one", "--allow-empty")
    inside = tmp_path / "site-packages"
    inside.mkdir()
    assert commit(inside) is None


def test_records_are_appended_as_json_lines(tmp_path):
    path = tmp_path / "new" / "results.jsonl"
    append(path, {"a": 1})
    append(path, {"b": [2.5, None]})
    assert [json.loads(line) for line in path.read_text().splitlines()] == [{"a": 1}, {"b": [2.5, None]}]
    with pytest.raises(ValueError, match="JSON compliant"):
        append(path, {"c": float("nan")})
    assert len(path.read_text().splitlines()) == 2
