"""Batches are a pure function of dataset, config and position: the same twice, after a resume, over any ranks."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from reelmill.engine import Batch, ClipLoader, LoaderConfig
from reelmill.engine.bank.records.build import build_bank
from reelmill.engine.bank.records.config import BankBuildConfig
from reelmill.engine.config import IngestConfig
from reelmill.engine.ingest import ingest
from reelmill.shards.errors import ReelmillError, UsageError
from reelmill.shards.reader import Dataset, members_of

TRAIN = LoaderConfig(global_batch=4, frames=4, size=32, seed=5)
EVAL = LoaderConfig(global_batch=4, frames=4, size=32, training=False)


def equal(first: Batch, second: Batch) -> bool:
    return first.keys == second.keys and all(
        torch.equal(getattr(first, name), getattr(second, name))
        for name in ("clips_BVTCHW", "labels_B", "action_ids_B", "valid_B")
    )


def same(first: list[Batch], second: list[Batch]) -> bool:
    return len(first) == len(second) and all(map(equal, first, second))


def test_shapes_labels_and_one_epoch(small_dataset):
    loader = ClipLoader(small_dataset, TRAIN)
    batches = list(loader)
    assert len(batches) == len(loader) == 3  # of 15 samples, the tail of 3 is dropped
    assert batches[0].clips_BVTCHW.shape == (4, 1, 4, 3, 32, 32)
    assert batches[0].clips_BVTCHW.dtype == torch.float32
    assert loader.classes == ("jump", "run", "sit down")
    assert len({key for batch in batches for key in batch.keys}) == 12
    assert all(batch.valid_B.all() and (batch.action_ids_B > 0).all() for batch in batches)


def test_two_runs_are_bit_identical_over_epochs_and_threads(small_dataset):
    def run(threads: int) -> list[Batch]:
        loader = ClipLoader(small_dataset, LoaderConfig(global_batch=4, frames=4, size=32, seed=5, threads=threads))
        return [batch for _ in range(2) for batch in loader]

    first = run(1)
    assert same(first, run(3))
    assert first[0].keys != first[3].keys  # the second epoch has another order


@pytest.mark.parametrize("steps", [1, 2, 3, 4])
def test_a_restored_loader_goes_on_bit_identically(small_dataset, steps):
    whole = ClipLoader(small_dataset, TRAIN)
    batches = [batch for _ in range(2) for batch in whole]
    first = ClipLoader(small_dataset, TRAIN)
    taken = 0
    while taken < steps:
        for _ in first:
            taken += 1
            if taken == steps:
                break
    state = json.loads(json.dumps(first.state_dict()))
    second = ClipLoader(small_dataset, TRAIN)
    second.load_state_dict(state)
    rest = list(second)
    assert same(rest, batches[steps : steps + len(rest)])
    assert len(rest) == -steps % 3 or (steps == 3 and len(rest) in (0, 3))


def test_ranks_share_a_step_and_any_world_size_goes_on(small_dataset):
    whole = list(ClipLoader(small_dataset, TRAIN))
    ranks = [ClipLoader(small_dataset, TRAIN, rank=rank, world_size=2) for rank in range(2)]
    steps = [next(iter(loader)) for loader in ranks]
    assert [key for pair in zip(*(step.keys for step in steps), strict=True) for key in pair] == whole[0].keys
    assert torch.equal(steps[1].clips_BVTCHW, whole[0].clips_BVTCHW[1::2])
    alone = ClipLoader(small_dataset, TRAIN)
    alone.load_state_dict(ranks[1].state_dict())
    assert same(list(alone), whole[1:])


def test_evaluation_pads_its_tail_and_counts_every_sample_once(small_dataset):
    batches = list(ClipLoader(small_dataset, EVAL))
    assert len(batches) == 4
    valid = [key for batch in batches for key, ok in zip(batch.keys, batch.valid_B.tolist(), strict=True) if ok]
    assert len(valid) == len(set(valid)) == 15
    assert batches[-1].valid_B.tolist() == [True, True, True, False]


def test_evaluation_views(small_dataset):
    config = LoaderConfig(global_batch=2, frames=3, size=16, training=False, clips=2, crops=3)
    batch = next(iter(ClipLoader(small_dataset, config)))
    assert batch.clips_BVTCHW.shape == (2, 6, 3, 3, 16, 16)


def test_classes_filter_and_number_the_labels(small_dataset):
    loader = ClipLoader(small_dataset, LoaderConfig(global_batch=5, frames=2, size=16, classes=("sit down", "jump")))
    labels = torch.cat([batch.labels_B for batch in loader])
    assert torch.bincount(labels).tolist() == [5, 5]


def corrupt(dataset: Path, copy: Path, places: list[int]) -> tuple[Path, list[str]]:
    """A copy in which the videos at `places` have a flipped byte; with their keys."""
    folder = Path(shutil.copytree(dataset, copy))
    opened = Dataset(folder)
    keys = []
    for place in places:
        row = opened.table(["key", "members"]).to_pylist()[place]
        sizes = opened.shard_sizes
        shard = next(s for s in range(len(sizes)) if sum(sizes[: s + 1]) > place)
        tar = opened.tar_path(shard)
        data = bytearray(tar.read_bytes())
        data[members_of(row["members"])[0].offset + 300] ^= 0xFF
        tar.write_bytes(data)
        keys.append(row["key"])
    return folder, keys


def test_one_bad_sample_costs_one_slot_and_is_quarantined(small_dataset, tmp_path):
    folder, (bad,) = corrupt(small_dataset, tmp_path / "copy", [1])
    quarantine = tmp_path / "quarantine.jsonl"
    config = LoaderConfig(global_batch=4, frames=4, size=32, training=False, quarantine=quarantine)
    good, found = list(ClipLoader(small_dataset, EVAL)), list(ClipLoader(folder, config))
    assert found[0].keys == good[0].keys
    assert found[0].keys[1] == bad
    assert found[0].valid_B.tolist() == [True, False, True, True]
    assert torch.equal(found[0].clips_BVTCHW[[0, 2, 3]], good[0].clips_BVTCHW[[0, 2, 3]])
    assert torch.equal(found[0].clips_BVTCHW[1], good[0].clips_BVTCHW[0])  # the neighbour's pixels
    assert torch.equal(found[0].labels_B, good[0].labels_B)
    (line,) = [json.loads(line) for line in quarantine.read_text().splitlines()]
    assert (line["key"], line["shard"], line["dataset"]) == (bad, "shards/000000.tar", str(folder))
    assert line["offset"] == members_of(Dataset(folder).table(["members"]).to_pylist()[1]["members"])[0].offset
    assert "must have crc32" in line["error"]


def test_a_batch_without_a_good_sample_is_black_and_not_valid(small_dataset, tmp_path):
    folder, keys = corrupt(small_dataset, tmp_path / "copy", [0, 1, 2, 3])
    first, *rest = ClipLoader(folder, EVAL)
    assert (first.keys, first.valid_B.any().item()) == (keys, False)
    darkest = (0 - torch.tensor(EVAL.mean)) / torch.tensor(EVAL.std)
    assert torch.allclose(first.clips_BVTCHW, darkest.view(3, 1, 1).expand_as(first.clips_BVTCHW), atol=1e-5)
    assert same(rest, list(ClipLoader(small_dataset, EVAL))[1:])


def test_too_many_bad_samples_stop_the_run(small_dataset, tmp_path, monkeypatch):
    monkeypatch.setattr("reelmill.engine.loading.quarantine.LEAST_SAMPLES", 10)
    folder, keys = corrupt(small_dataset, tmp_path / "copy", [0, 1])
    config = LoaderConfig(global_batch=4, frames=4, size=32, training=False, max_bad_fraction=0.1, threads=1)
    told = rf"max_bad_fraction 0.1 of the samples may be bad, but 2 of \d+ did not decode; the last is {keys[1]} in "
    with pytest.raises(ReelmillError, match=told + r".*/shards/000000.tar: .* must have crc32"):
        list(ClipLoader(folder, config))
    assert len(list(ClipLoader(folder, replace(config, max_bad_fraction=0.2)))) == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "test"}, r"must hold at least 4 samples of split 'test' and 3 classes, got 0 .splits there: none"),
        ({"classes": ("fly",)}, r"classes must be labels of .*, got 'fly'"),
        ({"global_batch": 64}, "must hold at least 64 samples"),
    ],
)
def test_a_wrong_selection_is_told(small_dataset, options, message):
    with pytest.raises(UsageError, match=message):
        ClipLoader(small_dataset, LoaderConfig(**({"global_batch": 4, "frames": 2, "size": 16} | options)))


@pytest.mark.parametrize(("rank", "world_size"), [(0, 3), (2, 2), (-1, 2)])
def test_ranks_must_divide_the_batch(small_dataset, rank, world_size):
    with pytest.raises(UsageError, match=f"must divide global_batch 4 .* got rank {rank} of {world_size}"):
        ClipLoader(small_dataset, TRAIN, rank=rank, world_size=world_size)


def test_a_resume_reads_nothing_that_was_consumed(small_dataset):
    whole = ClipLoader(small_dataset, TRAIN)
    batches = list(whole)
    total = whole.meter.read()
    assert (total.samples, total.bad, total.batches, total.decoded) == (12, 0, 3, {"jpeg": 12})
    first = ClipLoader(small_dataset, TRAIN)
    next(iter(first))
    second = ClipLoader(small_dataset, TRAIN)
    second.load_state_dict(first.state_dict())
    assert same(list(second), batches[1:])
    sizes = {row["key"]: members_of(row["members"])[0].size for row in table(small_dataset)}
    consumed = sum(sizes[key] for key in batches[0].keys)
    assert second.meter.read().payload_bytes == total.payload_bytes - consumed
    assert second.meter.read().samples == 8


def table(dataset: Path) -> list[dict]:
    rows: list[dict] = Dataset(dataset).table(["key", "members", "labels"]).to_pylist()
    return rows


@pytest.fixture(scope="module")
def other_dataset(media, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("other")
    for number in range(6):
        media.video(folder / f"videos/{'run' if number % 2 else 'fly'}/{number}.mp4", frames=8 + number, tint=40)
    ingest(IngestConfig(input=folder / "videos", out=folder / "dataset", dedup="none"))
    return Path(folder) / "dataset"


def test_datasets_are_mixed_by_weight_and_any_world_size_goes_on(small_dataset, other_dataset):
    both, config = [small_dataset, other_dataset], replace(TRAIN, weights=(1.0, 3.0))
    loader = ClipLoader(both, config)
    assert loader.classes == ("fly", "jump", "run", "sit down")
    assert loader.samples == 21
    batches = [batch for _ in range(4) for batch in loader]
    others = {row["key"]: row["labels"][0] for row in table(other_dataset)}
    keys = [key for batch in batches for key in batch.keys]
    assert 0.6 < sum(key in others for key in keys) / len(keys) < 0.9
    assert all(
        loader.classes[label] == others.get(key, loader.classes[label])
        for batch in batches
        for key, label in zip(batch.keys, batch.labels_B.tolist(), strict=True)
    )
    ranks = [ClipLoader(both, config, rank=rank, world_size=4) for rank in range(4)]
    for rank in ranks:
        rank.load_state_dict(loader.state_dict() | {"epoch": 1, "position": 8})
    steps = [next(iter(rank)) for rank in ranks]
    assert [step.keys[0] for step in steps] == batches[5 + 2].keys
    assert torch.equal(torch.cat([step.clips_BVTCHW for step in steps]), batches[5 + 2].clips_BVTCHW)


def test_evaluation_goes_through_every_dataset_once(small_dataset, other_dataset):
    batches = list(ClipLoader([small_dataset, other_dataset], EVAL))
    valid = [key for batch in batches for key, ok in zip(batch.keys, batch.valid_B.tolist(), strict=True) if ok]
    assert valid == [row["key"] for dataset in (small_dataset, other_dataset) for row in table(dataset)]


def test_every_label_of_a_sample_is_a_target(media, tmp_path):
    labels = [["a", "b"], ["b"], ["c", "a"], []]
    lines = []
    for number, its in enumerate(labels):
        media.video(tmp_path / f"{number}.mp4", frames=6, tint=20 * number)
        lines.append(json.dumps({"path": f"{number}.mp4", "label": its}))
    (tmp_path / "list.jsonl").write_text("\n".join(lines))
    ingest(IngestConfig(input=tmp_path / "list.jsonl", out=tmp_path / "out", dedup="none"))
    config = LoaderConfig(global_batch=4, frames=2, size=16, training=False, multi_label=True, classes=("c", "b"))
    (batch,) = ClipLoader(tmp_path / "out", replace(config, classes=None))
    assert batch.targets_BC is not None
    assert batch.targets_BC.tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 1], [0, 0, 0]]
    assert batch.labels_B.tolist() == [0, 1, 2, -1]
    (batch,) = ClipLoader(tmp_path / "out", config)
    assert batch.targets_BC is not None
    assert batch.valid_B.tolist() == [True, True, True, False]
    assert batch.targets_BC[:3].tolist() == [[0, 1], [0, 1], [1, 0]]


def test_wrong_mixtures_are_told(small_dataset, other_dataset):
    with pytest.raises(UsageError, match=r"weights must be 1 numbers > 0, one for each source, got \[1.0, 1.0\]"):
        ClipLoader(small_dataset, replace(TRAIN, weights=(1.0, 1.0)))
    with pytest.raises(UsageError, match=r"weights mix datasets in training; .* got \(1.0,\)"):
        replace(EVAL, weights=(1.0,))
    with pytest.raises(UsageError, match="a loader needs at least one dataset, got none"):
        ClipLoader([], TRAIN)
    with pytest.raises(UsageError, match=r"other.*/dataset must hold at least 1 samples of any split and 1 classes"):
        ClipLoader([small_dataset, other_dataset], replace(TRAIN, classes=("jump",), weights=(1.0, 1.0)))


def test_descriptions_are_drawn_for_every_sample(small_dataset, tmp_path):
    lines = [
        json.dumps({"action": name, "text": f"text {number} of {name}"})
        for name in ("jump", "run")
        for number in range(5)
    ]
    (tmp_path / "records.jsonl").write_text("\n".join(lines))
    build_bank(BankBuildConfig(records=tmp_path / "records.jsonl", out=tmp_path / "bank"))
    config = replace(TRAIN, bank=tmp_path / "bank", descriptions=3)
    loader = ClipLoader(small_dataset, config)
    batches = [batch for _ in range(2) for batch in loader]
    drawn: dict[str, list[list[str]]] = {}
    for batch in batches:
        assert batch.texts is not None
        for key, label, texts in zip(batch.keys, batch.labels_B.tolist(), batch.texts, strict=True):
            name = loader.classes[label]
            assert len(set(texts)) == len(texts) == (0 if name == "sit down" else 3)
            assert all(text.endswith(f" of {name}") for text in texts)
            drawn.setdefault(key, []).append(texts)
    assert any(first != second for first, second in (both for both in drawn.values() if len(both) == 2))
    again = ClipLoader(small_dataset, config, rank=1, world_size=4)
    again.load_state_dict(loader.state_dict() | {"epoch": 1, "position": 4})
    assert next(iter(again)).texts == (batches[4].texts or [])[1:2]
    assert next(iter(ClipLoader(small_dataset, TRAIN))).texts is None
