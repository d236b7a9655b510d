"""The loader in a training loop: one iteration at a time, a state that always tells the truth, what is read when."""

import gc
import json
import shutil
import threading
from dataclasses import replace
from typing import Any

import pytest
from reelmill.engine import ClipLoader, LoaderConfig
from reelmill.shards.errors import ReelmillError, StorageError, UsageError
from reelmill.shards.reader import Dataset

TRAIN = LoaderConfig(global_batch=4, frames=1, size=8, seed=5, threads=1)
OVER = "this iteration of the loader is over: another one, or another position, came since"
Keys = list[list[str]]


def loop(loader: Any, steps: int, state: dict[str, Any] | None = None) -> tuple[Keys, dict[str, Any]]:
    """A training loop as it is written for torchdata's StatefulDataLoader: epoch after epoch, left in the middle."""
    if state is not None:
        loader.load_state_dict(state)
    seen: Keys = []
    while len(seen) < steps:
        for batch in loader:
            seen.append(batch.keys)
            if len(seen) == steps:
                break
    return seen, loader.state_dict()


def test_a_loop_goes_on_wherever_it_was_left(sources):
    whole, _ = loop(ClipLoader(sources[0], TRAIN), 7)  # 11 samples: 2 steps an epoch
    for steps in range(1, 7):
        first, state = loop(ClipLoader(sources[0], TRAIN), steps)
        rest, _ = loop(ClipLoader(sources[0], TRAIN), 7 - steps, json.loads(json.dumps(state)))
        assert first + rest == whole


def test_a_loader_that_is_left_early_ends_its_thread(small_dataset):
    loader = ClipLoader(small_dataset, TRAIN)
    batches = iter(loader)
    next(batches)
    batches.close()  # type: ignore[attr-defined]
    assert loader.state_dict()["position"] == 4
    assert len(list(loader)) == 2


def test_a_state_of_something_else_is_refused(small_dataset):
    loader = ClipLoader(small_dataset, TRAIN)
    with pytest.raises(UsageError, match="loader state must have seed 5 to go on here, got 6"):
        loader.load_state_dict(loader.state_dict() | {"seed": 6})
    with pytest.raises(UsageError, match=r"loader state must have samples '.*' to go on here, got None"):
        loader.load_state_dict({"seed": 5, "window_shards": None, "global_batch": 4})
    chosen = ClipLoader(small_dataset, replace(TRAIN, classes=("jump", "run")))
    with pytest.raises(UsageError, match=r"loader state must have samples '.*' to go on here, got '.*'"):
        loader.load_state_dict(chosen.state_dict())
    for name, value in (("position", 3), ("position", -4), ("position", None), ("epoch", -1), ("epoch", True)):
        told = r"must have an epoch >= 0 and a position that is a multiple of 4, got "
        with pytest.raises(UsageError, match=told):
            loader.load_state_dict(loader.state_dict() | {name: value})
    with pytest.raises(UsageError, match="loader state must be what state_dict gave, got list"):
        loader.load_state_dict([])  # type: ignore[arg-type]


def test_another_iteration_ends_the_one_before(sources):
    loader = ClipLoader(sources[0], TRAIN)
    whole = [batch.keys for batch in loader]
    loader.set_epoch(0)
    first = iter(loader)
    assert next(first).keys == whole[0]
    second = iter(loader)
    assert next(second).keys == whole[1]  # from where the loader stands
    with pytest.raises(UsageError, match=OVER):
        next(first)
    assert loader.state_dict()["position"] == 8
    assert list(second) == []
    assert (loader.state_dict()["epoch"], loader.state_dict()["position"]) == (1, 0)


@pytest.mark.parametrize("move", ["set_epoch", "load_state_dict"])
def test_another_position_ends_the_iteration(sources, move):
    loader = ClipLoader(sources[0], TRAIN)
    batches = iter(loader)
    next(batches)
    if move == "set_epoch":
        loader.set_epoch(3)
    else:
        loader.load_state_dict(loader.state_dict() | {"epoch": 3, "position": 0})
    with pytest.raises(UsageError, match=OVER):
        next(batches)
    assert (loader.state_dict()["epoch"], loader.state_dict()["position"]) == (3, 0)
    fresh = ClipLoader(sources[0], TRAIN)
    fresh.set_epoch(3)
    assert [batch.keys for batch in loader] == [batch.keys for batch in fresh]


@pytest.mark.parametrize("epoch", [-1, 1.5, True, "2"])
def test_an_epoch_is_a_whole_number(sources, epoch):
    with pytest.raises(UsageError, match=f"epoch must be a whole number >= 0, got {epoch!r}"):
        ClipLoader(sources[0], TRAIN).set_epoch(epoch)


def test_nothing_is_read_after_an_iteration_was_left(sources):
    before = set(threading.enumerate())
    loader = ClipLoader(sources[0], TRAIN)
    batches = iter(loader)
    next(batches)
    batches.close()  # type: ignore[attr-defined]
    read = loader.meter.read().samples
    assert {thread.name.split("_")[0] for thread in set(threading.enumerate()) - before} <= {"decode"}
    assert loader.meter.read().samples == read
    loader.close()
    assert set(threading.enumerate()) <= before
    with pytest.raises(RuntimeError, match="after shutdown"):
        next(iter(loader))


def test_threads_end_with_their_loader(sources):
    before = set(threading.enumerate())
    loader = ClipLoader(sources[0], TRAIN)
    for _ in loader:
        break
    del loader
    gc.collect()
    left = set(threading.enumerate()) - before
    for thread in left:
        thread.join(timeout=10)
    assert not any(thread.is_alive() for thread in left)


def test_datasets_without_weights_are_one(sources):
    """Each sample once in every epoch, however small its dataset is beside the others."""
    keys = sorted(key for path in sources for key in Dataset(path).table(["key"]).column("key").to_pylist())
    loader = ClipLoader(sources, replace(TRAIN, global_batch=1))
    orders = [[key for batch in loader for key in batch.keys] for _ in range(2)]
    assert orders[0] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1]) == keys


def test_a_quarantine_that_cannot_be_written_stops_the_run(sources, tmp_path):
    folder = shutil.copytree(sources[0], tmp_path / "bad")
    (folder / "shards/000001.tar").unlink()
    (tmp_path / "file").touch()
    config = replace(TRAIN, quarantine=tmp_path / "file" / "quarantine.jsonl")
    with pytest.raises(StorageError, match=r"file/quarantine.jsonl.*Not a directory"):
        list(ClipLoader(folder, config))


def test_processes_that_do_not_start_stop_the_run(sources, monkeypatch):
    monkeypatch.setattr("reelmill.engine.loading.workers._command", lambda *_: ["/bin/false"])
    with pytest.raises(
        ReelmillError, match="2 decoding processes in turn did not start, the last one with exit code 1"
    ):
        list(ClipLoader(sources[0], replace(TRAIN, workers=1)))
