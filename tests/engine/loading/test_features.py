"""Features through the loader: the rows of the frames that a clip shows, masks, faults, resume, no video at all."""

import json
import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from reelmill.engine import Batch, ClipLoader, LoaderConfig
from reelmill.engine.loading.sampling import Source, make_views
from reelmill.shards.errors import DamageError, UsageError
from reelmill.shards.features import Features, FeatureWriter, Stored, TensorSpec
from reelmill.shards.reader import Dataset
from reelmill.shards.store import Folder

TRAIN = LoaderConfig(global_batch=4, frames=4, size=32, seed=5, features="clip")
EVAL = LoaderConfig(global_batch=4, frames=4, size=32, training=False, features="clip")
Write = Callable[..., None]


def rows_of(dataset: Path) -> dict[str, dict]:
    opened = Dataset(dataset)
    rows = opened.table(["key", "frames", "labels"]).to_pylist()
    shards = np.repeat([entry.name for entry in opened.manifest.shards], opened.shard_sizes)
    return {row["key"]: row | {"shard": str(shard)} for row, shard in zip(rows, shards, strict=True)}


def of_key(key: str, rows: int) -> np.ndarray:
    """(rows, 2): what the sample is, and which row."""
    name = int(key[:4], 16)
    return np.stack([np.full(rows, name), np.arange(rows)], axis=1).astype(np.float32)


@pytest.fixture
def write() -> Write:
    def write(dataset: Path, name: str = "clip", *, per_frame: float = 1, skip: tuple[str, ...] = (), **more) -> None:
        with FeatureWriter(dataset, name, description="", versions={}) as writer:
            for key, row in rows_of(dataset).items():
                if key not in skip:
                    frames = of_key(key, int(row["frames"] * per_frame))
                    words = np.full((1 + int(key[0], 16) % 3, 3), int(key[:2], 16), np.float16)
                    arrays = {"frames": frames, "words": words, "video": frames[0]} | more
                    writer.add(row["shard"], key, {name: Stored.of(array) for name, array in arrays.items()})

    return write


@pytest.fixture
def dataset(small_dataset, tmp_path, write) -> Path:
    folder = Path(shutil.copytree(small_dataset, tmp_path / "dataset"))
    write(folder)
    return folder


def features_of(batch: Batch) -> dict[str, torch.Tensor]:
    assert batch.features is not None
    assert batch.feature_masks is not None
    return batch.features | {f"{name} mask": mask for name, mask in batch.feature_masks.items()}


def whole(slots: Iterable[Any], batch: Batch) -> list[Any]:
    """The slots that are not a neighbour's."""
    return list(compress(slots, batch.valid_B.tolist()))


def same(first: list[Batch], second: list[Batch]) -> bool:
    def equal(one: Batch, other: Batch) -> bool:
        mine, theirs = features_of(one), features_of(other)
        return (
            one.keys == other.keys
            and torch.equal(one.valid_B, other.valid_B)
            and mine.keys() == theirs.keys()
            and all(torch.equal(mine[name], theirs[name]) for name in mine)
        )

    return len(first) == len(second) and all(map(equal, first, second))


@pytest.mark.parametrize("per_frame", [1, 0.5, 2])
def test_a_clip_and_its_features_show_the_same_frames(dataset, write, per_frame):
    write(dataset, "other", per_frame=per_frame)
    rows = rows_of(dataset)
    for config in (replace(TRAIN, features="other"), replace(EVAL, features="other", clips=2, crops=3)):
        for batch in ClipLoader(dataset, config):
            for key, row_VTD in whole(zip(batch.keys, features_of(batch)["frames"], strict=True), batch):
                frames = rows[key]["frames"]
                views = make_views(config, Source(key, frames, 96.0, 64.0), epoch=0)
                wanted = np.stack([view.frames for view in views]) * int(frames * per_frame) // frames
                assert torch.equal(row_VTD[..., 1], torch.from_numpy(wanted).float())
                assert (row_VTD[..., 0] == int(key[:4], 16)).all()


def test_other_tensors_come_whole(dataset):
    for batch in ClipLoader(dataset, TRAIN):
        found = features_of(batch)
        assert found["video"].shape == (4, 2)
        assert found["words"].dtype == torch.float16
        lengths = [1 + int(key[0], 16) % 3 for key in batch.keys]
        assert found["words"].shape == (4, max(lengths), 3)
        assert found["words mask"].sum(1).tolist() == lengths
        assert not found["words"][~found["words mask"]].any()
        assert [words[0, 0].item() for words in found["words"]] == [int(key[:2], 16) for key in batch.keys]
        assert "frames mask" not in found


def test_all_rows_with_a_mask(dataset):
    rows = rows_of(dataset)
    for batch in ClipLoader(dataset, replace(EVAL, feature_frames="all")):
        found = features_of(batch)
        triples = zip(batch.keys, found["frames"], found["frames mask"], strict=True)
        for key, frames_TD, mask_T in whole(triples, batch):
            assert mask_T.sum() == rows[key]["frames"]
            assert torch.equal(frames_TD[mask_T], torch.from_numpy(of_key(key, rows[key]["frames"])))
            assert not frames_TD[~mask_T].any()


@pytest.mark.parametrize("config", [TRAIN, EVAL])
def test_without_video_the_same_features_come_and_no_video_is_read(dataset, config):
    whole = list(ClipLoader(dataset, config))
    for tar in (dataset / "shards").glob("*.tar"):
        tar.unlink()
    loader = ClipLoader(dataset, replace(config, video=False))
    batches = list(loader)
    assert same(batches, whole)
    assert [batch.labels_B.tolist() for batch in batches] == [batch.labels_B.tolist() for batch in whole]
    assert batches[0].clips_BVTCHW.shape == (4, 1, 0, 3, 32, 32)
    figures = loader.meter.read()
    assert (figures.samples, figures.bad, figures.heads) == (12 if config.training else 15, 0, {})
    assert 0 < figures.payload_bytes < 20_000


def test_bit_identical_over_threads_batches_ranks_and_a_resume(dataset):
    config = replace(TRAIN, video=False)
    loader = ClipLoader(dataset, config)
    whole = [batch for _ in range(2) for batch in loader]
    again = ClipLoader(dataset, replace(config, threads=4))
    assert same([batch for _ in range(2) for batch in again], whole)

    first = ClipLoader(dataset, config)
    taken = iter(first)
    next(taken)
    taken.close()  # type: ignore[attr-defined]
    state = json.loads(json.dumps(first.state_dict()))
    resumed = ClipLoader(dataset, config)
    resumed.load_state_dict(state)
    assert same(list(resumed) + list(resumed), whole[1:])

    ranks = [ClipLoader(dataset, config, rank=rank, world_size=2) for rank in range(2)]
    for ours, theirs in zip(zip(*ranks, strict=True), whole, strict=False):
        assert [key for pair in zip(*(batch.keys for batch in ours), strict=True) for key in pair] == theirs.keys
        for rank, batch in enumerate(ours):
            assert torch.equal(features_of(batch)["frames"], features_of(theirs)["frames"][rank::2])


def test_other_features_are_another_state(dataset, write):
    write(dataset, "other", per_frame=2)
    state = ClipLoader(dataset, TRAIN).state_dict()
    for features in ("other", None):
        with pytest.raises(UsageError, match="loader state must have samples"):
            ClipLoader(dataset, replace(TRAIN, features=features)).load_state_dict(state)
    ClipLoader(dataset, replace(TRAIN, video=False)).load_state_dict(state)


@pytest.mark.parametrize("video", [True, False])
def test_a_damaged_sample_costs_its_slot(dataset, tmp_path, video):
    keys = list(rows_of(dataset))
    features = Features(Folder(dataset), "clip")
    at = {row["key"]: row for row in features.index.to_pylist()}
    path = dataset / f"features/clip/{features.set.tars[at[keys[1]]['tar']].name}.tar"
    data = bytearray(path.read_bytes())
    data[at[keys[1]]["offset"] + 100] ^= 1
    path.write_bytes(data)
    config = replace(EVAL, video=video, quarantine=tmp_path / "bad.jsonl")
    good = list(ClipLoader(dataset, replace(EVAL, features=None)))
    batches = list(ClipLoader(dataset, config))
    assert [batch.valid_B.tolist() for batch in batches] == [[True, False, True, True], *[[True] * 4] * 2, [1, 1, 1, 0]]
    found = features_of(batches[0])
    assert torch.equal(found["frames"][1], found["frames"][0])  # the nearest neighbour's
    assert batches[0].keys == good[0].keys
    if video:
        assert torch.equal(batches[0].clips_BVTCHW[1], batches[0].clips_BVTCHW[0])
        assert torch.equal(batches[0].clips_BVTCHW[2], good[0].clips_BVTCHW[2])
    (line,) = map(json.loads, (tmp_path / "bad.jsonl").read_text().splitlines())
    assert line["key"] == keys[1]
    assert f"{keys[1]}.safetensors at offset {at[keys[1]]['offset']} must have crc32" in line["error"]


def test_missing_features_and_a_whole_bad_batch(dataset, write, tmp_path):
    keys = list(rows_of(dataset))
    write(dataset, "some", skip=tuple(keys[:4]))
    config = replace(EVAL, features="some", video=False, quarantine=tmp_path / "bad.jsonl", max_bad_fraction=0.5)
    first, *others = ClipLoader(dataset, config)
    assert not first.valid_B.any()
    found = features_of(first)
    assert (found["frames"].shape, found["words"].shape) == ((4, 1, 4, 2), (4, 0, 3))
    assert not found["frames"].any()
    assert all(batch.valid_B[:3].all() for batch in others)
    lines = [json.loads(line) for line in (tmp_path / "bad.jsonl").read_text().splitlines()]
    assert sorted(line["key"] for line in lines) == sorted(keys[:4])
    assert all("features/some holds no features of" in line["error"] for line in lines)


def test_a_bad_video_takes_its_features_along(dataset, tmp_path):
    path = next((dataset / "shards").glob("*.tar"))
    os.truncate(path, 700)
    config = replace(EVAL, quarantine=tmp_path / "bad.jsonl", max_bad_fraction=1.0)
    batches = list(ClipLoader(dataset, config))
    assert not batches[0].valid_B.any()
    assert len((tmp_path / "bad.jsonl").read_text().splitlines()) == len({key for b in batches for key in b.keys})


def test_without_video_seconds_are_still_those_of_the_frames(dataset):
    config = replace(EVAL, sampling="seconds", seconds_apart=0.2)
    assert same(list(ClipLoader(dataset, config)), list(ClipLoader(dataset, replace(config, video=False))))


def test_mixtures_have_features_in_common(dataset, small_dataset, tmp_path, write):
    other = Path(shutil.copytree(small_dataset, tmp_path / "other"))
    with pytest.raises(UsageError, match=r"other/features/clip/features.json must be a file of the dataset"):
        ClipLoader([dataset, other], TRAIN)
    write(other, per_frame=2, video=np.zeros(3, np.float32))
    config = replace(TRAIN, video=False, global_batch=8)
    with pytest.raises(UsageError, match=r"features of .*other must be frames F32 .* as in .*dataset, got .*"):
        ClipLoader([dataset, other], replace(config, seed=1))
    shutil.rmtree(other / "features")
    write(other, per_frame=2)
    batch = next(iter(ClipLoader([dataset, other], replace(config, weights=(1.0, 1.0)))))
    assert batch.valid_B.all()


def test_what_cannot_be_batched_is_told_at_once(dataset, write):
    rows = iter(range(100))
    with FeatureWriter(dataset, "regions", description="", versions={}) as writer:
        for key, row in rows_of(dataset).items():
            regions = np.zeros((row["frames"], 1 + next(rows) % 2, 3), np.float32)
            writer.add(row["shard"], key, {"regions": Stored.of(regions)})
    with pytest.raises(UsageError, match=r"regions of .* must differ along the first axis alone, got F32 \(\*, \*, 3"):
        ClipLoader(dataset, replace(TRAIN, features="regions"))
    with pytest.raises(UsageError, match=r"features/none/features.json must be a file of the dataset"):
        ClipLoader(dataset, replace(TRAIN, features="none"))
    with pytest.raises(UsageError, match="video must be True without features, got False"):
        LoaderConfig(global_batch=4, video=False)
    with pytest.raises(UsageError, match="feature_frames must be one of sampled, all, got some"):
        replace(TRAIN, feature_frames="some")  # type: ignore[arg-type]
    huge = Features(Folder(dataset), "clip").set
    huge.tensors["video"] = TensorSpec("F32", (10**12,))
    record = asdict(huge) | {"digest": huge.digest}
    (dataset / "features/clip/features.json").write_text(json.dumps(record))
    with pytest.raises(DamageError, match=r"features video must take at most .* a sample, got F32 \(10000"):
        ClipLoader(dataset, TRAIN)
    (dataset / "features/clip/features.json").write_text("{}")
    with pytest.raises(DamageError, match="is no list of features"):
        ClipLoader(dataset, TRAIN)


def test_every_type_comes_as_it_is_stored_and_no_rows_are_damage(dataset, tmp_path):
    keys = list(rows_of(dataset))
    with FeatureWriter(dataset, "half", description="", versions={}) as writer:
        for key, row in rows_of(dataset).items():
            frames_TD = torch.arange(3 * (key != keys[2]), dtype=torch.bfloat16)[:, None].expand(-1, 2)
            data = frames_TD.contiguous().view(torch.uint16).numpy().tobytes()
            flags = np.array([True, False])
            tensors = {"frames": Stored("BF16", tuple(frames_TD.shape), data), "flags": Stored.of(flags)}
            writer.add(row["shard"], key, tensors)
    config = replace(EVAL, features="half", video=False, quarantine=tmp_path / "bad.jsonl")
    first, *_ = ClipLoader(dataset, config)
    found = features_of(first)
    assert (found["frames"].dtype, found["flags"].dtype) == (torch.bfloat16, torch.bool)
    assert found["frames"][0, 0].tolist() == [[0, 0], [1, 1], [1, 1], [2, 2]]  # row i · 3 // 20 of frame i
    assert first.valid_B.tolist() == [True, True, False, True]
    assert "frames must have a row for each frame, got the shape (0, 2)" in (tmp_path / "bad.jsonl").read_text()
