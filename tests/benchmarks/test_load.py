"""The load benchmark renders the forms it says, every way that runs here gives the same clips, and all is recorded."""

import json
import sys

import numpy as np
import pytest
from reelmill.benchmarks import load, load_long, load_peers
from reelmill.benchmarks.load import ALONE, DALI, HERE, OURS, WORKERS, BenchLoadConfig, bench_load
from reelmill.benchmarks.load_clips import Form, write_forms
from reelmill.benchmarks.load_world import write_dataset
from reelmill.engine import ClipLoader, LoaderConfig
from reelmill.shards.errors import UsageError
from reelmill.shards.reader import Dataset, SampleRef


@pytest.fixture(scope="module")
def forms(tmp_path_factory) -> list[Form]:
    return write_forms(tmp_path_factory.mktemp("forms"), ["240"], frames=24)


def test_forms_are_what_they_say(forms):
    assert [form.name for form in forms] == [
        "archive, long groups, 320x240",
        "archive, short groups, 320x240",
        "train-cpu, 320x240",
    ]
    assert [form.videos[0].suffix for form in forms] == [".mp4", ".mp4", ".mkv"]
    assert forms[0].nonref_share > 0.2
    assert forms[2].nonref_share == 0


def test_a_dataset_of_copies_reads_as_any_other(forms, tmp_path):
    folder = write_dataset(tmp_path / "dataset", forms[2].videos, 10, shard_samples=4)
    dataset = Dataset(folder)
    assert dataset.shard_sizes == [4, 4, 2]
    assert len(dataset.packets(SampleRef(2, 1))) == 24
    keys = [key for batch in ClipLoader(folder, LoaderConfig(global_batch=5, size=16, frames=2)) for key in batch.keys]
    assert len(set(keys)) == 10


def test_ways_are_timed_and_recorded_and_others_get_no_time(forms, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(load, "write_forms", lambda *_: forms[2:])
    wrong = tmp_path / "wrong.py"
    wrong.write_text("import json, sys\nprint(json.dumps({'means': [9.0] * 4}), flush=True)\nsys.stdin.read()\n")
    real = load._commands

    def commands(*arguments):
        found = real(*arguments)
        assert set(found) == {OURS, WORKERS, ALONE, *HERE, DALI}
        ended = [sys.executable, "-c", "raise SystemExit(3)"]
        return {OURS: found[OURS], HERE[1]: found[HERE[1]], "ended": ended, "wrong": [sys.executable, str(wrong)]}

    monkeypatch.setattr(load, "_commands", commands)
    config = BenchLoadConfig(clips=8, repeats=1, size=64, global_batch=4, results=tmp_path / "load.jsonl")
    assert bench_load(config) == 0
    records = [json.loads(line) for line in (tmp_path / "load.jsonl").read_text().splitlines()]
    assert [record["way"] for record in records] == [OURS, HERE[1]]
    assert all(record["wall_ms"][0] > 0 and record["machine"] for record in records)
    told = capsys.readouterr().out
    assert "not timed: give --peers PYTHON" in told
    assert "ended must serve epochs, but ended with exit code 3" in told
    assert "not timed: its clips differ by" in told


def test_the_rivals_take_the_same_frames_as_evaluation():
    from reelmill.engine.loading.frames import segment_frames

    for count in (1, 7, 8, 300):
        assert np.array_equal(load_peers.wanted(count, 8), segment_frames(count, 8, np.full(8, 0.5)))


def test_memory_is_looked_at_and_a_resume_timed(forms, tmp_path):
    folder = write_dataset(tmp_path / "dataset", forms[2].videos, 16, shard_samples=4)
    record = load_long._memory(folder, 20, 0)
    assert len(record["bytes"]) == 20
    assert min(record["bytes"]) > 1e8
    assert record["most_bytes"] >= record["last_bytes"]
    resume = load_long._resume(folder, tmp_path / "cache", 2)
    assert resume["first_batch_seconds"] >= resume["made_seconds"] > 0


def test_options_are_checked():
    with pytest.raises(UsageError, match="must be > 0 and samples >= 64, got 0, 5, 10000 and 1000000"):
        BenchLoadConfig(clips=0)
    with pytest.raises(UsageError, match="sizes must be of 240, 720, got '480'"):
        BenchLoadConfig(sizes=("480",))
